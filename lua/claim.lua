--[[
claim: take a key for an attempt, or say how it stands.

List     one entry a key; entries are independent
KEYS[i]  record, then the keys of its mark
ARGV     per list: lease_ms (integer > 0), ttl_ms (integer > 0), retention_ms (integer > 0),
         max_attempts (integer, 0 without a limit), waits ("1": leave a mark that somebody waits)
         per entry: token (16 bytes), fingerprint (16 bytes, or empty),
         then the effects (a MARK where the record is one of a set, see lib/effects.lua; else none)

Returns  per entry: "owned", attempt, fence, born, from ("nothing" | "released" | "lapsed" | "resend")
         | "completed", attempt, result | "failed", attempt, failure | "exhausted", failures, since ("now", attempt | "before")
         | "seen" (its mark stands) | "busy", remaining ms | "mismatch" | "other_kind" (a record of apply) | "broken" | "stale" | "unreadable"
Writes   SET first: memory refuses new work
Resend   safe: the owner's token answers owned with the same fence and attempt, a given-up one stale
]]

local lease_ms, ttl_ms, retention_ms, max_attempts, waits = per_list(5)

local function take(record_key, shape, token, attempt, fence, born, failures, fingerprint, given_up)
  local bytes = pack_running(shape, attempt, fence, token, lease_ms, failures, born, fingerprint, given_up)
  redis.call("SET", record_key, bytes, "PX", ttl_ms)
end

local function owned(attempt, fence, born, from)
  return { "owned", attempt, fence, born, from }
end

local function claim(record_key, effects, token, fingerprint)
  local raw, state, shape, rest_at = read(record_key)
  if not raw then
    if has_mark(effects) then
      return { "seen" }
    end
    local fence = now_us()
    take(record_key, 0, token, 1, fence, fence, 0, fingerprint, "")
    return owned(1, fence, fence, "nothing")
  end
  if not state then
    return { "unreadable" }
  end
  if is_mismatch(raw, shape, rest_at, fingerprint) then
    return { "mismatch" }
  end
  if has(shape, OF_APPLY) then
    return { "other_kind" }
  end
  local answer = final_answer(raw, state, rest_at)
  if answer then
    return answer
  end

  local failures = failures_of(raw, state)
  local born = born_of(raw, shape, rest_at)
  local from = "released"
  if state == IN_PROGRESS then
    if string.sub(raw, 15, 30) == token then
      return owned(attempt_of(raw), fence_of(raw), born, "resend")
    end
    local left, lease_end = lease_left(raw)
    if left > 0 then
      -- Counted again from now, and kept, or a clock that went back would hold the key until it has caught up.
      if now_ms() + left < lease_end then
        redis.pcall("SETRANGE", record_key, LEASE_OFFSET, struct.pack(">I6", now_ms() + left))
      end
      if waits == "1" and not has(shape, HAS_WAITERS) then
        redis.pcall("SETRANGE", record_key, SHAPE_OFFSET, string.char(shape + HAS_WAITERS))
      end
      return { "busy", left }
    end
    failures = failures + 1
    from = "lapsed"
  end
  if is_given_up(raw, rest_at, token) then
    return { "stale" }
  end
  if has_mark(effects) then
    return { "seen" }
  end
  if tonumber(max_attempts) > 0 and failures >= tonumber(max_attempts) then
    return exhaust(record_key, raw, shape, rest_at, failures, retention_ms)
  end

  local attempt = attempt_of(raw) + 1
  local fence = math.max(fence_of(raw) + 1, now_us())
  local kept = has(shape, HAS_FINGERPRINT) and fingerprint_of(raw, shape, rest_at) or fingerprint
  take(record_key, shape, token, attempt, fence, born, failures, kept, given_up_by(raw, rest_at))
  return owned(attempt, fence, born, from)
end

return each_entry_with_effects(claim, 2)
