--[[
settle: end an attempt that will not commit, released for the next or failed for good; tells which of commit and settle won.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: token (16 bytes), fence (integer), born (integer), as ("released" | "failed"),
         ended ("failed": counts towards max_attempts; "interrupted": does not; "unstarted": no handler began, the
         attempt number is given back), ttl_ms (integer > 0), channel (for hints, or empty), failure (bytes, or empty)

Returns  per entry: "done", attempt, result | "released" | "failed" | "broken" | "gone" | "lost"
Writes   PEXPIRE first: memory never refuses the end of an attempt
Resend   safe: a second copy finds its own token on the settled record and answers as the first
]]

local function settle(record_key, token, fence, born, as, ended, ttl_ms, channel, failure)
  local record = read(record_key)
  if not record then
    return { "gone" }
  end
  if record.state == BROKEN then
    return { "broken" }
  end
  if is_of(record, token, fence) then
    if record.state == COMPLETED then
      return { "done", string.format("%.0f", record.attempt), record.rest }
    end
    if record.state == RELEASED then
      return { "released" }
    end
    if record.state == FAILED then
      return { "failed" }
    end
  end
  if record.born ~= tonumber(born) then
    return { "gone" }
  end
  if not is_held_by(record, token, fence) then
    return { "lost" }
  end

  if ended == "failed" then
    record.failures = record.failures + 1
  elseif ended == "unstarted" then
    record.attempt = record.attempt - 1
  end
  if as == "failed" then
    record.state, record.rest = FAILED, failure
    put_back(record_key, record, ttl_ms)
    hint(record_key, record, channel, "failed")
    return { "failed" }
  end
  record.state = RELEASED
  put_back(record_key, record, ttl_ms)
  hint(record_key, record, channel, "released")
  return { "released" }
end

return each_entry(settle, 8)
