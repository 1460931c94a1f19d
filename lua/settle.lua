--[[
settle: end an attempt that will not commit, released for the next or failed for good; tells which of commit and settle won.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per list: as ("released" | "failed"), ended ("failed": counts towards max_attempts; "interrupted": does not;
         "unstarted": no handler began, the attempt number is given back), ttl_ms (integer > 0), channel (for hints, or empty)
         per entry: token (16 bytes), fence (integer), born (integer), failure (bytes, or empty)

Returns  per entry: "done", attempt, result | "released" | "failed" | "broken" | "gone" | "lost"
Writes   what memory refuses is written again after PEXPIRE, which it never refuses: the end of an attempt lands
Resend   safe: a second copy finds its own token on the settled record and answers as the first
]]

local as, ended, ttl_ms, channel = per_list(4)

local function settle(record_key, token, fence, born, failure)
  local raw, state, shape, rest_at = read(record_key)
  if not state then
    return { "gone" }
  end
  if state == BROKEN then
    return { "broken" }
  end
  if is_of(raw, token, fence) then
    if state == COMPLETED then
      return { "done", attempt_of(raw), string.sub(raw, rest_at) }
    end
    if state == RELEASED then
      return { "released" }
    end
    if state == FAILED then
      return { "failed" }
    end
  end
  local own_born = born_of(raw, shape, rest_at)
  if own_born ~= tonumber(born) then
    return { "gone" }
  end
  if state ~= IN_PROGRESS or not is_held_by(raw, token, fence) then
    return { "lost" }
  end

  if as == "failed" then
    put_back(record_key, finished(raw, rest_at, FAILED, failure), ttl_ms)
    hint(record_key, shape, channel, "failed")
    return { "failed" }
  end
  local attempt, own_fence, half = struct.unpack(">I4I7c8", raw, 4)
  local failures = failures_of(raw, state)
  if ended == "failed" then
    failures = failures + 1
  elseif ended == "unstarted" then
    attempt = attempt - 1
  end
  local fingerprint, given_up = fingerprint_of(raw, shape, rest_at), string.sub(raw, rest_at)
  local own = struct.pack(">I4", failures)
  put_back(record_key, pack(RELEASED, shape, attempt, own_fence, half, own, own_born, fingerprint, given_up), ttl_ms)
  hint(record_key, shape, channel, "released")
  return { "released" }
end

return each_entry(settle, 4)
