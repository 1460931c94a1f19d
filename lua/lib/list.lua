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

local function run_entry(entry, ...)
  local ran, reply = pcall(entry, ...)
  return ran and reply or { "refused", error_code(reply) }
end

local function each_entry(entry, width)
  local replies = {}
  for index = 1, #KEYS do
    local first = (index - 1) * width + 1
    replies[index] = run_entry(entry, KEYS[index], unpack(ARGV, first, first + width - 1))
  end
  return replies
end

-- Entries that bring effects: after its arguments an entry has its plan, one letter for each further key of its own, and
-- how many words of effects follow.
local function each_entry_with_effects(entry, width)
  local replies = {}
  local key, first = 1, 1
  while key <= #KEYS do
    local plan, words = ARGV[first + width], tonumber(ARGV[first + width + 1])
    local effects = { key = key, plan = plan, first = first + width + 2, last = first + width + 1 + words }
    -- The effects go first: `unpack` gives all its values only in the last place.
    replies[#replies + 1] = run_entry(entry, KEYS[key], effects, unpack(ARGV, first, first + width - 1))
    key = key + 1 + #plan
    first = effects.last + 1
  end
  return replies
end
