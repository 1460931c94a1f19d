--[[
forget: remove the record of a key.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per entry: force ("1": also a record in progress, or one of another layout)

Returns  per entry: "forgotten" | "none" | "running", remaining ms of the lease | "unreadable"
Writes   UNLINK
Resend   safe for the data: a second copy finds none, or removes what came since
]]

local function forget(record_key, force)
  local raw, state = read(record_key)
  if not raw then
    return { "none" }
  end
  if force ~= "1" then
    if not state then
      return { "unreadable" }
    end
    if state == IN_PROGRESS then
      return { "running", (lease_left(raw)) }
    end
  end
  redis.call("UNLINK", record_key)
  return { "forgotten" }
end

return each_entry(forget, 1)
