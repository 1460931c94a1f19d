--[[
renew: extend the leases of running attempts.

List     one entry a key; entries are independent
KEYS[i]  record
ARGV     per list: lease_ms (integer; 0 ends it, as if its holder had been silent), ttl_ms (integer > 0)
         per entry: token (16 bytes), fence (integer)

Returns  per entry: "renewed" | "lost" | "broken"
Writes   PEXPIRE first: memory never refuses a renewal
Resend   safe: a second copy renews again; a lease that ran out and that nobody took is held again
]]

local lease_ms, ttl_ms = per_list(2)

local function renew(record_key, token, fence)
  local raw, state = read(record_key)
  if state == BROKEN then
    return { "broken" }
  end
  if state ~= IN_PROGRESS or not is_held_by(raw, token, fence) then
    return { "lost" }
  end
  redis.call("PEXPIRE", record_key, ttl_ms)
  redis.call("SETRANGE", record_key, LEASE_OFFSET, struct.pack(">I6I4", now_ms() + lease_ms, lease_ms))
  return { "renewed" }
end

return each_entry(renew, 2)
