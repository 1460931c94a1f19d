--[[
What stream commands make of a key: its last id. A stream without entries is a stream all the same.
]]

local LAST_HALF_ID = "18446744073709551615"

local function is_later(id, other)
  for half = 1, 2 do
    local a, b = id[half], other[half]
    if a ~= b then
      return #a > #b or (#a == #b and a > b)
    end
  end
  return false
end

local function last_id_of(state)
  local data_key = state.key
  local info = state.stored and redis.call("XINFO", "STREAM", data_key) or { "last-generated-id", "0-0" }
  for at = 1, #info, 2 do
    if info[at] == "last-generated-id" then
      return { string.match(info[at + 1], "^(%d+)%-(%d+)$") }
    end
  end
end

-- The next number. Nothing but nines is far from the last id and from any that a list comes to: it stays.
local function after_digits(digits)
  return (string.gsub(digits, "([0-8])(9*)$", function(last, nines)
    return string.format("%d", tonumber(last) + 1) .. string.rep("0", #nines)
  end))
end

local function follow_stream(state, command, first)
  if command ~= "XADD" then
    return nil
  end
  local at = first
  if ARGV[at] == "NOMKSTREAM" then
    if state.type == "none" then
      return nil
    end
    at = at + 1
  end
  if ARGV[at] == "MAXLEN" or ARGV[at] == "MINID" then
    at = at + ((ARGV[at + 1] == "~" or ARGV[at + 1] == "=") and 3 or 2)
    at = at + (ARGV[at] == "LIMIT" and 2 or 0)
  end
  state.type = "stream"
  local last_id = state.last or last_id_of(state)
  if last_id[1] == LAST_HALF_ID and last_id[2] == LAST_HALF_ID then
    return "stream_exhausted"
  end
  local id = { string.match(ARGV[at], "^(%d+)%-(%d+)$") }
  if ARGV[at] == "*" then
    -- Of this moment, and where the last one is not of the past, the next: that matters at the end of all ids alone.
    id = { last_id[1], after_digits(last_id[2]) }
  elseif not is_later(id, last_id) then
    return "stream_id"
  end
  state.last = id
  return nil
end
