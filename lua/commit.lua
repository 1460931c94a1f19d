--[[
commit: complete the record of an attempt that still holds its key.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: token (16 bytes), fence (integer), born (integer), retention_ms (integer > 0),
         channel (for hints, or empty), result (bytes)

Returns  per entry: "done" | "broken" | "gone" | "lost"
Writes   PEXPIRE first: memory never refuses finished work
Resend   safe: a second copy finds its own token on the completed record and answers done
]]

local function commit(record_key, token, fence, born, retention_ms, channel, result)
  local record = read(record_key)
  if not record then
    return { "gone" }
  end
  if record.state == COMPLETED and is_of(record, token, fence) then
    return { "done" }
  end
  if record.state == BROKEN then
    return { "broken" }
  end
  if record.born ~= tonumber(born) then
    return { "gone" }
  end
  if not is_held_by(record, token, fence) then
    return { "lost" }
  end
  record.state, record.rest = COMPLETED, result
  put_back(record_key, record, retention_ms)
  hint(record_key, record, channel, "completed")
  return { "done" }
end

return each_entry(commit, 6)
