--[[
claim: lua/claim.lua on a hash, check for check. It reads only the fields that its answer needs.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: token (16 bytes), fingerprint (16 bytes, or empty), lease_ms (integer > 0), ttl_ms (integer > 0),
         retention_ms (integer > 0), max_attempts (integer, 0 without a limit), waits ("1": leave a mark that somebody waits)

Returns  per entry: "owned", attempt, fence, born, from ("nothing" | "released" | "lapsed" | "resend")
         | "completed", attempt, result | "failed", attempt, failure | "exhausted", failures
         | "busy", remaining ms | "mismatch" | "broken" | "stale" | "unreadable"
Writes   HSET first: memory refuses new work
Resend   as lua/claim.lua
]]

local function is_given_up(half, given_up, token)
  local own = string.sub(token, 1, HALF)
  if half == own then
    return true
  end
  for at = 1, #given_up, HALF do
    if string.sub(given_up, at, at + HALF - 1) == own then
      return true
    end
  end
  return false
end

local function owned(attempt, fence, born, from)
  return { "owned", string.format("%.0f", attempt), string.format("%.0f", fence), string.format("%.0f", born), from }
end

local function take_new(record_key, token, fingerprint, lease_ms, ttl_ms)
  local fence = now_us()
  local text = string.format("%.0f", fence)
  local lease_end = string.format("%.0f", now_ms() + lease_ms)
  if fingerprint == "" then
    redis.call("HSET", record_key, "v", LAYOUT, "s", IN_PROGRESS, "a", "1", "f", text, "t", token,
      "e", lease_end, "l", lease_ms)
  else
    redis.call("HSET", record_key, "v", LAYOUT, "s", IN_PROGRESS, "a", "1", "f", text, "t", token,
      "e", lease_end, "l", lease_ms, "p", fingerprint)
  end
  redis.call("PEXPIRE", record_key, ttl_ms)
  return owned(1, fence, fence, "nothing")
end

local function lease_left(record_key, lease_end, lease_ms)
  local left = lease_end - now_ms()
  if left > lease_ms then
    left = lease_ms
    redis.pcall("HSET", record_key, "e", string.format("%.0f", now_ms() + left))
  end
  return left
end

local function claim(record_key, token, fingerprint, lease_ms, ttl_ms, retention_ms, max_attempts, waits)
  local first = redis.call("HMGET", record_key, "v", "s", "p", "a", "r")
  if not first[1] then
    return take_new(record_key, token, fingerprint, lease_ms, ttl_ms)
  end
  if first[1] ~= LAYOUT then
    return { "unreadable" }
  end
  local known = first[3]
  if known and known ~= fingerprint then
    return { "mismatch" }
  end

  local state = first[2]
  if state == COMPLETED then
    return { "completed", first[4], first[5] }
  end
  if state == FAILED then
    return { "failed", first[4], first[5] }
  end
  if state == EXHAUSTED then
    return { "exhausted", redis.call("HGET", record_key, "n") or "0" }
  end
  if state == BROKEN then
    return { "broken" }
  end

  local rest = redis.call("HMGET", record_key, "t", "f", "b", "e", "l", "n", "g", "w")
  local owner, fence, given_up = rest[1], tonumber(rest[2]), rest[7] or ""
  local born = tonumber(rest[3] or rest[2])
  local failures = tonumber(rest[6] or "0")
  local from = "released"
  if state == IN_PROGRESS then
    if owner == token then
      return owned(first[4], fence, born, "resend")
    end
    local left = lease_left(record_key, tonumber(rest[4]), tonumber(rest[5]))
    if left > 0 then
      if waits == "1" and not rest[8] then
        redis.pcall("HSET", record_key, "w", "1")
      end
      return { "busy", string.format("%.0f", left) }
    end
    failures = failures + 1
    from = "lapsed"
  end
  local half = string.sub(owner, 1, HALF)
  if is_given_up(half, given_up, token) then
    return { "stale" }
  end

  if tonumber(max_attempts) > 0 and failures >= tonumber(max_attempts) then
    redis.call("HSET", record_key, "s", EXHAUSTED, "n", string.format("%.0f", failures), "t", half)
    redis.call("HDEL", record_key, "e", "l", "g")
    redis.call("PEXPIRE", record_key, retention_ms)
    return { "exhausted", string.format("%.0f", failures) }
  end

  local attempt = first[4] + 1
  local next_fence = math.max(fence + 1, now_us())
  redis.call("HSET", record_key, "s", IN_PROGRESS, "a", string.format("%.0f", attempt),
    "f", string.format("%.0f", next_fence), "b", string.format("%.0f", born), "t", token,
    "e", string.format("%.0f", now_ms() + lease_ms), "l", lease_ms, "n", string.format("%.0f", failures),
    "g", string.sub(half .. given_up, 1, HALF * MOST_GIVEN_UP))
  if not known and fingerprint ~= "" then
    redis.call("HSET", record_key, "p", fingerprint)
  end
  redis.call("PEXPIRE", record_key, ttl_ms)
  return owned(attempt, next_fence, born, from)
end

return each_entry(claim, 7)
