--[[
apply: seen-check, checks, writes and record of a call whose writes are known up front, in one step.

List     one entry a key; entries are independent
KEYS[i]  record, then the keys of its effects
ARGV     per list: ttl_ms (integer > 0), retention_ms (integer > 0), max_attempts (integer, 0 without a limit)
         per entry: token (16 bytes), fingerprint (16 bytes, or empty), then the effects (see lib/effects.lua)

Returns  per entry: "applied", attempt, replies | "completed", attempt, replies | "seen" (its mark stands)
         | "conflict", number of the effect, attempt | "rejected", number of the effect, reason, attempt
         | "failed", attempt, failure | "exhausted", failures, since ("now", attempt | "before")
         | "busy", remaining ms | "mismatch" | "other_kind" (a record of once) | "broken" | "stale" | "unreadable"
Writes   SETRANGE or SET first: memory refuses new work
Resend   safe: a second copy finds its own token on the completed record and answers applied, or on the released one that
         a conflict or a rejection left, and answers stale
]]

local ttl_ms, retention_ms, max_attempts = per_list(3)

local function apply(record_key, effects, token, fingerprint)
  local raw, state, shape, rest_at = read(record_key)
  local fence = now_us()
  local attempt, born, failures, given_up = 1, fence, 0, ""
  local half = string.sub(token, 1, HALF)
  if raw then
    if not state then
      return { "unreadable" }
    end
    if is_mismatch(raw, shape, rest_at, fingerprint) then
      return { "mismatch" }
    end
    if not has(shape, OF_APPLY) then
      local left = state == IN_PROGRESS and lease_left(raw) or 0
      if left > 0 then
        return { "busy", left }
      end
      return { "other_kind" }
    end
    if state == COMPLETED and string.sub(raw, 15, 22) == half then
      return { "applied", attempt_of(raw), string.sub(raw, rest_at) }
    end
    local answer = final_answer(raw, state, rest_at)
    if answer then
      return answer
    end
    if is_given_up(raw, rest_at, token) then
      return { "stale" }
    end
    if has_mark(effects) then
      return { "seen" }
    end
    failures = failures_of(raw, state)
    if tonumber(max_attempts) > 0 and failures >= tonumber(max_attempts) then
      return exhaust(record_key, raw, shape, rest_at, failures, retention_ms)
    end
    attempt, born, given_up = attempt_of(raw) + 1, born_of(raw, shape, rest_at), given_up_by(raw, rest_at)
    fence = math.max(fence_of(raw) + 1, fence)
    fingerprint = has(shape, HAS_FINGERPRINT) and fingerprint_of(raw, shape, rest_at) or fingerprint
  elseif has_mark(effects) then
    return { "seen" }
  end
  local function put(as, own, rest, ...)
    redis.call("SET", record_key, pack(as, OF_APPLY, attempt, fence, half, own, born, fingerprint, rest), ...)
  end

  local list = parse_effects(effects)
  local conflict = find_conflict(list)
  if conflict then
    put(RELEASED, struct.pack(">I4", failures), given_up, "PX", ttl_ms)
    return { "conflict", conflict, attempt }
  end
  local rejected, reason = find_rejected(list)
  local written, replies
  if not rejected then
    ask_memory(record_key)
    rejected, reason, written, replies = write_effects(list)
  end
  if written and rejected then
    put(BROKEN, struct.pack(">c8I6I4I2I4", string.sub(token, HALF + 1), 0, 0, 0, failures), given_up)
    return { "broken" }
  end
  if rejected then
    put(RELEASED, struct.pack(">I4", failures + 1), given_up, "PX", ttl_ms)
    return { "rejected", rejected, reason, attempt }
  end
  local kept_ms = retention_ms
  if list.mark then
    replies, kept_ms = "", ARGV[list.mark.first + 3]
  end
  put(COMPLETED, "", replies, "PX", kept_ms)
  return { "applied", attempt, replies }
end

return each_entry_with_effects(apply, 2)
