--[[
The walk over a list of independent calls, shared by every script.

Each entry runs in a pcall of its own: what one raises is its own answer and nobody else's. Of an error only its code
is told ("OOM", "NOPERM", "WRONGTYPE", or "LUA" for a fault of ours): an error reply would reach every entry, and error
texts may hold what the caller wrote.
]]

local function error_code(raised)
  -- A table in some versions and a string in others: a string has no field `err`.
  local text = raised.err or raised
  -- What the user may not do inside a script is a plain ERR, in 7.0 by the first text and from 7.2 on by the second.
  if string.find(text, "user executing the script", 1, true) or string.find(text, "ACL failure", 1, true) then
    return "NOPERM"
  end
  return string.match(text, "%f[%u]%u[%u%d]+%f[^%u%d]") or "LUA"
end

local function each_entry(entry, width)
  local replies = {}
  for index = 1, #KEYS do
    local first = (index - 1) * width + 1
    local ran, reply = pcall(entry, KEYS[index], unpack(ARGV, first, first + width - 1))
    replies[index] = ran and reply or { "refused", error_code(reply) }
  end
  return replies
end

-- Entries that may bring effects: after its arguments an entry has its plan, one letter for each further key of its own,
-- and how many words of effects follow. One that brings none is given nil for them.
local function each_entry_with_effects(entry, width)
  local replies = {}
  local key, first = 1, 1
  while key <= #KEYS do
    local last = first + width - 1
    local plan, words = ARGV[last + 1], ARGV[last + 2]
    local effects
    if words ~= "0" then
      effects = { key = key, plan = plan, first = last + 3, last = last + 2 + words }
    end
    -- The effects go first: `unpack` gives all its values only in the last place.
    local ran, reply = pcall(entry, KEYS[key], effects, unpack(ARGV, first, last))
    replies[#replies + 1] = ran and reply or { "refused", error_code(reply) }
    key = key + 1 + #plan
    first = last + 3 + words
  end
  return replies
end
