--[[
claim: take a key for an attempt, or say how it stands.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: token (16 bytes), fingerprint (16 bytes, or empty), lease_ms (integer > 0), ttl_ms (integer > 0),
         retention_ms (integer > 0), max_attempts (integer, 0 without a limit), waits ("1": leave a mark that somebody waits)

Returns  per entry: "owned", attempt, fence, born, from ("nothing" | "released" | "lapsed" | "resend")
         | "completed", attempt, result | "failed", attempt, failure | "exhausted", failures, since ("now", attempt | "before")
         | "busy", remaining ms | "mismatch" | "other_kind" (a record of apply) | "broken" | "stale" | "unreadable"
Writes   SET first: memory refuses new work
Resend   safe: the owner's token answers owned with the same fence and attempt, a given-up one stale
]]

local function take(record_key, token, attempt, fence, born, failures, fingerprint, given_up, shape, lease_ms, ttl_ms)
  redis.call("SET", record_key, pack({
    state = IN_PROGRESS,
    shape = shape,
    attempt = attempt,
    fence = fence,
    half = string.sub(token, 1, HALF),
    other_half = string.sub(token, HALF + 1),
    lease_end = now_ms() + lease_ms,
    lease_ms = tonumber(lease_ms),
    run = 0,
    failures = failures,
    born = born,
    fingerprint = fingerprint ~= "" and fingerprint or nil,
    rest = given_up,
  }), "PX", ttl_ms)
end

local function owned(attempt, fence, born, from)
  return { "owned", string.format("%.0f", attempt), string.format("%.0f", fence), string.format("%.0f", born), from }
end

local function claim(record_key, token, fingerprint, lease_ms, ttl_ms, retention_ms, max_attempts, waits)
  local raw = redis.call("GET", record_key)
  if not raw then
    local fence = now_us()
    take(record_key, token, 1, fence, fence, 0, fingerprint, "", 0, lease_ms, ttl_ms)
    return owned(1, fence, fence, "nothing")
  end

  local record, answer = read_for(raw, fingerprint)
  if not record then
    return answer
  end
  if has(record.shape, OF_APPLY) then
    return { "other_kind" }
  end
  answer = final_answer(record)
  if answer then
    return answer
  end

  local failures = record.failures
  local from = "released"
  if record.state == IN_PROGRESS then
    if record.half .. record.other_half == token then
      return owned(record.attempt, record.fence, record.born, "resend")
    end
    local left = lease_left(record)
    if left > 0 then
      -- Counted again from now, and kept, or a clock that went back would hold the key until it has caught up.
      if now_ms() + left < record.lease_end then
        redis.pcall("SETRANGE", record_key, LEASE_OFFSET, struct.pack(">I6", now_ms() + left))
      end
      if waits == "1" and not has(record.shape, HAS_WAITERS) then
        redis.pcall("SETRANGE", record_key, SHAPE_OFFSET, string.char(record.shape + HAS_WAITERS))
      end
      return { "busy", string.format("%.0f", left) }
    end
    failures = failures + 1
    from = "lapsed"
  end
  if is_given_up(record, token) then
    return { "stale" }
  end

  if tonumber(max_attempts) > 0 and failures >= tonumber(max_attempts) then
    return exhaust(record_key, record, failures, retention_ms)
  end

  local attempt = record.attempt + 1
  local fence = math.max(record.fence + 1, now_us())
  local kept = record.fingerprint or fingerprint
  take(record_key, token, attempt, fence, record.born, failures, kept, given_up_by(record), record.shape, lease_ms, ttl_ms)
  return owned(attempt, fence, record.born, from)
end

return each_entry(claim, 7)
