--[[
apply: seen-check, checks, writes and record of a call whose writes are known up front, in one step.

List     one entry a key; entries are independent
KEYS[i]  record, then the keys of its effects
ARGV     per entry: token (16 bytes), fingerprint (16 bytes, or empty), ttl_ms (integer > 0), retention_ms (integer > 0),
         max_attempts (integer, 0 without a limit), then the effects (see lib/effects.lua)

Returns  per entry: "applied", attempt, replies | "completed", attempt, replies
         | "conflict", number of the effect | "rejected", number of the effect, reason
         | "failed", attempt, failure | "exhausted", failures, since ("now", attempt | "before")
         | "busy", remaining ms | "mismatch" | "other_kind" (a record of once) | "broken" | "stale" | "unreadable"
Writes   SETRANGE or SET first: memory refuses new work
Resend   safe: a second copy finds its own token on the completed record and answers applied, or on the released one that
         a conflict or a rejection left, and answers stale
]]

local function release(record_key, record, ttl_ms)
  record.state = RELEASED
  redis.call("SET", record_key, pack(record), "PX", ttl_ms)
end

local function apply(record_key, effects, token, fingerprint, ttl_ms, retention_ms, max_attempts)
  local raw = redis.call("GET", record_key)
  local fence = now_us()
  local record = { shape = OF_APPLY, attempt = 0, failures = 0, fence = 0, born = fence, rest = "" }
  if raw then
    local answer
    record, answer = read_for(raw, fingerprint)
    if not record then
      return answer
    end
    if not has(record.shape, OF_APPLY) then
      if record.state == IN_PROGRESS and lease_left(record) > 0 then
        return { "busy", string.format("%.0f", lease_left(record)) }
      end
      return { "other_kind" }
    end
    if record.state == COMPLETED and record.half == string.sub(token, 1, HALF) then
      return { "applied", string.format("%.0f", record.attempt), record.rest }
    end
    answer = final_answer(record)
    if answer then
      return answer
    end
    if is_given_up(record, token) then
      return { "stale" }
    end
    if tonumber(max_attempts) > 0 and record.failures >= tonumber(max_attempts) then
      return exhaust(record_key, record, record.failures, retention_ms)
    end
    record.rest = given_up_by(record)
  end

  record.attempt = record.attempt + 1
  record.fence = math.max(record.fence + 1, fence)
  record.half = string.sub(token, 1, HALF)
  record.fingerprint = record.fingerprint or (fingerprint ~= "" and fingerprint or nil)

  local list = parse_effects(effects)
  local conflict = find_conflict(list)
  if conflict then
    release(record_key, record, ttl_ms)
    return { "conflict", conflict }
  end
  local rejected, reason = find_rejected(list)
  local written, replies
  if not rejected then
    -- Changes nothing, and is refused where memory is.
    redis.call("SETRANGE", record_key, 0, "")
    rejected, reason, written, replies = write_effects(list)
  end
  if written and rejected then
    record.state, record.other_half = BROKEN, string.sub(token, HALF + 1)
    record.lease_end, record.lease_ms, record.run = 0, 0, 0
    redis.call("SET", record_key, pack(record))
    return { "broken" }
  end
  if rejected then
    record.failures = record.failures + 1
    release(record_key, record, ttl_ms)
    return { "rejected", rejected, reason }
  end

  record.state, record.rest = COMPLETED, replies
  redis.call("SET", record_key, pack(record), "PX", retention_ms)
  return { "applied", string.format("%.0f", record.attempt), replies }
end

return each_entry_with_effects(apply, 5)
