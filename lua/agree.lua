--[[
agree: hold all who use a set of seen ids to one layout of it.

List     one entry a set; entries are independent
KEYS[i]  layout
ARGV     per entry: layout (text), ttl_ms (integer > 0)

Returns  per entry: "agreed" | "differs", the layout in use
Writes   SET: memory refuses new sets; PEXPIRE, which it never refuses, where the layout is there
Resend   safe: a second copy agrees with the first
]]

local function agree(layout_key, layout, ttl_ms)
  local in_use = redis.call("GET", layout_key)
  if not in_use then
    redis.call("SET", layout_key, layout, "PX", ttl_ms)
    return { "agreed" }
  end
  if in_use ~= layout then
    return { "differs", in_use }
  end
  redis.call("PEXPIRE", layout_key, ttl_ms)
  return { "agreed" }
end

return each_entry(agree, 2)
