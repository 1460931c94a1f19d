--[[
touch: write the expiry of a completed record as it is, so that its replication can be waited for, and tell what it holds.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: nothing

Returns  per entry: "completed", SHA-1 of the result (hex) | "gone" (there is no completed record)
Writes   PEXPIRE
Resend   safe: a second copy writes the same
]]

local function touch(record_key)
  local raw, state, _, rest_at = read(record_key)
  if state ~= COMPLETED then
    return { "gone" }
  end
  redis.call("PEXPIRE", record_key, redis.call("PTTL", record_key))
  return { "completed", redis.sha1hex(string.sub(raw, rest_at)) }
end

return each_entry(touch, 0)
