--[[
The record as a Redis hash: a prototype to measure, with the fields of lua/lib/record.lua, a hash field each.

  v  layout version        s  state                    p  fingerprint, where there is one
  a  attempt               f  fence                    b  born, where it is not the present fence
  t  owner's token, of a settled record its first half
  e  end of the lease      l  length of the lease      n  failures, where there are any
  g  given-up half tokens  w  "1": somebody waits      r  the result, or the failure
]]

local LAYOUT = "1"
local IN_PROGRESS, COMPLETED, FAILED, EXHAUSTED, BROKEN = "R", "C", "F", "X", "B"

local HALF = 8
local MOST_GIVEN_UP = 8

local function hint(record_key, waits, channel, state)
  if channel ~= "" and waits == "1" then
    redis.pcall("PUBLISH", channel, redis.sha1hex(record_key) .. " " .. state)
  end
end
