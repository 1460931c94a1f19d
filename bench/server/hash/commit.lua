--[[
commit: lua/commit.lua on a hash, check for check.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: token (16 bytes), fence (integer), born (integer), retention_ms (integer > 0),
         channel (for hints, or empty), result (bytes)

Returns  per entry: "done" | "broken" | "gone" | "lost"
Writes   PEXPIRE first: memory never refuses finished work
Resend   as lua/commit.lua
]]

local function commit(record_key, token, fence, born, retention_ms, channel, result)
  local fields = redis.call("HMGET", record_key, "v", "s", "f", "t", "b", "w")
  if fields[1] ~= LAYOUT then
    return { "gone" }
  end
  local state = fields[2]
  local is_fence = tonumber(fields[3]) == tonumber(fence)
  local half = string.sub(token, 1, HALF)
  if state == COMPLETED and is_fence and fields[4] == half then
    return { "done" }
  end
  if state == BROKEN then
    return { "broken" }
  end
  if tonumber(fields[5] or fields[3]) ~= tonumber(born) then
    return { "gone" }
  end
  if state ~= IN_PROGRESS or not is_fence or fields[4] ~= token then
    return { "lost" }
  end
  redis.call("PEXPIRE", record_key, retention_ms)
  redis.call("HSET", record_key, "s", COMPLETED, "t", half, "r", result)
  redis.call("HDEL", record_key, "e", "l", "n", "g")
  hint(record_key, fields[6], channel, "completed")
  return { "done" }
end

return each_entry(commit, 6)
