--[[
inspect: how a key stands, without a change.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: nothing

Returns  per entry: "none" | "unreadable"
         | "in_progress", "completed", "failed", "released" or "broken", then
           attempt, fence, remaining ms of the lease (in progress only, else empty), ms to expiry (-1: never),
           bytes of the result (completed only, else empty), fingerprint (bytes, or empty)
Writes   nothing
Resend   safe
]]

local function inspect(record_key)
  local raw, state, shape, rest_at = read(record_key)
  if not raw then
    return { "none" }
  end
  if not state then
    return { "unreadable" }
  end
  local details = {
    attempt_of(raw),
    fence_of(raw),
    "",
    redis.call("PTTL", record_key),
    "",
    fingerprint_of(raw, shape, rest_at),
  }
  if state == IN_PROGRESS then
    details[3] = lease_left(raw)
    return { "in_progress", unpack(details) }
  end
  if state == COMPLETED then
    details[5] = #raw - rest_at + 1
    return { "completed", unpack(details) }
  end
  if state == RELEASED then
    return { "released", unpack(details) }
  end
  if state == BROKEN then
    return { "broken", unpack(details) }
  end
  return { "failed", unpack(details) }
end

return each_entry(inspect, 0)
