--[[
Hints wake waiters early and promise nothing. Only a record that somebody waits for pays for one, and a user who may
not PUBLISH loses the hint alone.
]]

local function hint(record_key, shape, channel, state)
  if channel ~= "" and has(shape, HAS_WAITERS) then
    redis.pcall("PUBLISH", channel, redis.sha1hex(record_key) .. " " .. state)
  end
end
