--[[
The server's wall clock, read at most once a script: TIME is frozen inside a script only from Redis 7.2 on.
]]

local clock_us, clock_ms

local function now_us()
  if not clock_us then
    local time = redis.call("TIME")
    clock_us = time[1] * 1000000 + time[2]
  end
  return clock_us
end

local function now_ms()
  clock_ms = clock_ms or math.floor(now_us() / 1000)
  return clock_ms
end
