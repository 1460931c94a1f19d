--[[
hold: say since when a consumer has an entry of a stream, and how often that was handed out; only of one that it still has.

List     one entry a key; entries are independent
KEYS[i]  stream
ARGV     per entry: group, consumer, id (of the entry), deliveries (how often it was handed out), idle_ms (since when the
         consumer has it), as_deliveries (how often it was handed out, from now on)

Returns  per entry: "held" | "gone" (not pending, or handed out again since) | "trimmed" (not in the stream)
Writes   XCLAIM, which forgets an entry that is not in the stream: that is left to who takes it over, and tells of it
Resend   safe: a second copy says the same, or finds it counted otherwise, and answers gone
]]

local function hold(stream_key, group, consumer, id, deliveries, idle_ms, as_deliveries)
  if not is_handed_to(stream_key, group, consumer, id, deliveries) then
    return { "gone" }
  end
  if not entry_of(stream_key, id) then
    return { "trimmed" }
  end
  redis.call("XCLAIM", stream_key, group, consumer, 0, id, "IDLE", idle_ms, "RETRYCOUNT", as_deliveries, "JUSTID")
  return { "held" }
end

return each_entry(hold, 6)
