--[[
Whose an entry of a stream is. How often it was handed out fences one handing out from the next: a name may be taken again
by another process, or by the same one for another handing out, while the one that had it before is frozen.
]]

local function is_handed_to(stream_key, group, consumer, id, deliveries)
  local pending = redis.call("XPENDING", stream_key, group, id, id, 1, consumer)[1]
  return pending and pending[4] == tonumber(deliveries)
end

local function entry_of(stream_key, id)
  return redis.call("XRANGE", stream_key, id, id)[1]
end
