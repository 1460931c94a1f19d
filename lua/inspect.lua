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
  local raw = redis.call("GET", record_key)
  if not raw then
    return { "none" }
  end
  local record = parse(raw)
  if not record then
    return { "unreadable" }
  end
  local numbers = {
    string.format("%.0f", record.attempt),
    string.format("%.0f", record.fence),
    "",
    string.format("%.0f", redis.call("PTTL", record_key)),
    "",
    record.fingerprint or "",
  }
  local state = record.state
  if state == IN_PROGRESS then
    numbers[3] = string.format("%.0f", lease_left(record))
    return { "in_progress", unpack(numbers) }
  end
  if state == COMPLETED then
    numbers[5] = string.format("%.0f", #record.rest)
    return { "completed", unpack(numbers) }
  end
  if state == RELEASED then
    return { "released", unpack(numbers) }
  end
  if state == BROKEN then
    return { "broken", unpack(numbers) }
  end
  return { "failed", unpack(numbers) }
end

return each_entry(inspect, 0)
