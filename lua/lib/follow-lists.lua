--[[
What list commands make of a key: how many elements it has. Which they are matters to LREM alone, and is followed where
LREM may leave none, and commands of another type come after it.
]]

-- A range as Redis reads it, of `count` elements; from 0. Empty where the first is greater than the last.
local function range_of(start, stop, count)
  start, stop = tonumber(start), tonumber(stop)
  start = math.max(start < 0 and start + count or start, 0)
  stop = math.min(stop < 0 and stop + count or stop, count - 1)
  return start, stop
end

-- The elements from `head` on, so that both ends are alike near.
local function read_items(state)
  local data_key = state.key
  state.items, state.head = redis.call("LRANGE", data_key, 0, -1), 1
  state.count = #state.items
end

local function remove_items(state, count, value)
  local from, to, step = state.head, state.head + state.count - 1, 1
  if count < 0 then
    from, to, step = to, from, -1
  end
  local left = count == 0 and state.count or math.abs(count)
  local kept = {}
  for at = from, to, step do
    if left > 0 and state.items[at] == value then
      left = left - 1
    else
      kept[#kept + 1] = state.items[at]
    end
  end
  state.items, state.head, state.count = {}, 1, #kept
  for at, item in ipairs(kept) do
    state.items[count < 0 and #kept - at + 1 or at] = item
  end
end

local function follow_list(state, command, first, last)
  if command == "LSET" then
    local index = tonumber(ARGV[first])
    local at = index < 0 and index + state.count or index
    if state.count == 0 then
      return "no_such_key"
    end
    if at < 0 or at >= state.count then
      return "out_of_range"
    end
    state.items[state.head + at] = ARGV[first + 1]
    return nil
  end
  if command == "LTRIM" then
    local start, stop = range_of(ARGV[first], ARGV[first + 1], state.count)
    state.head, state.count = state.head + start, math.max(stop - start + 1, 0)
    return nil
  end
  if command == "LREM" then
    -- Without them its count stays the most that it may be: no later command asks for it.
    if state.plan == "*" then
      remove_items(state, tonumber(ARGV[first]), ARGV[first + 1])
    end
    return nil
  end
  if string.find(command, "X$") and state.count == 0 then
    return nil
  end
  for at = first, last do
    if string.find(command, "^L") then
      state.head = state.head - 1
      state.items[state.head] = ARGV[at]
    else
      state.items[state.head + state.count] = ARGV[at]
    end
    state.count = state.count + 1
  end
  return nil
end
