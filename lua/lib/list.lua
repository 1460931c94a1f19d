--[[
The walk over a list of independent calls, shared by every script.

Each entry runs in a pcall of its own: what one raises is its own answer and nobody else's. Of an error only its code
is told ("OOM", "NOPERM", "WRONGTYPE", or "LUA" for a fault of ours): an error reply would reach every entry, and error
texts may hold what the caller wrote.

A reply is bounded: an entry whose answer would make it longer answers "large", and so does each after it, without being
run. They are asked again one by one, which every script allows. The first is always answered.
]]

local LARGEST_REPLY_BYTES = 262144

local function error_code(raised)
  -- A table in some versions and a string in others: a string has no field `err`.
  local text = raised.err or raised
  -- What the user may not do inside a script is a plain ERR, in 7.0 by the first text and from 7.2 on by the second.
  if string.find(text, "user executing the script", 1, true) or string.find(text, "ACL failure", 1, true) then
    return "NOPERM"
  end
  -- In Cluster, a key that is not there while its slot is moved. The server has found it before it ran the script, or it would
  -- have refused it: an entry ahead has removed it, or it has just expired.
  if string.find(text, "non local key", 1, true) then
    return "TRYAGAIN"
  end
  return string.match(text, "%f[%u]%u[%u%d]+%f[^%u%d]") or "LUA"
end

-- The answers of a list, and what their bytes come to: those of an entry are its third word, if it has any.
local replies, reply_bytes = {}, 0

local function keep(index, ran, reply)
  if not ran then
    replies[index] = { "refused", error_code(reply) }
    return
  end
  local bytes = reply[3]
  if type(bytes) == "string" then
    reply_bytes = reply_bytes + #bytes
  end
  replies[index] = (index == 1 or reply_bytes <= LARGEST_REPLY_BYTES) and reply or { "large" }
end

-- Where the arguments of the first entry begin.
local entries_at = 1

-- The arguments that stand once in front of the entries and hold for each: settings, which nearly all calls share.
local function per_list(count)
  entries_at = count + 1
  return unpack(ARGV, 1, count)
end

local function each_entry(entry, width)
  for index = 1, #KEYS do
    if reply_bytes > LARGEST_REPLY_BYTES then
      replies[index] = { "large" }
    else
      local first = (index - 1) * width + entries_at
      keep(index, pcall(entry, KEYS[index], unpack(ARGV, first, first + width - 1)))
    end
  end
  return replies
end

-- Entries that may bring effects: after its arguments an entry says how many words of effects it has. Where it has some,
-- its plan comes next, one letter for each further key of its own, and then the words; one that has none is given nil.
local function each_entry_with_effects(entry, width)
  local key, first = 1, entries_at
  while key <= #KEYS do
    local last = first + width - 1
    local words, next_key, effects = ARGV[last + 1], key + 1, nil
    if words ~= "0" then
      local plan = ARGV[last + 2]
      effects = { key = key, plan = plan, first = last + 3, last = last + 2 + words }
      next_key = next_key + #plan
    end
    local index = #replies + 1
    if reply_bytes > LARGEST_REPLY_BYTES then
      replies[index] = { "large" }
    else
      -- The effects go first: `unpack` gives all its values only in the last place.
      keep(index, pcall(entry, KEYS[key], effects, unpack(ARGV, first, last)))
    end
    key = next_key
    first = effects and effects.last + 1 or last + 2
  end
  return replies
end
