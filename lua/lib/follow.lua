--[[
What a command would make of the data, without making it. Each type of key has a file of its own, follow-….lua.

A key's state is a table: `type` ("none" where there is no key) and what of its contents matters, which the caller's plan
tells for each key:

  "1"  nothing: all commands are of one type, and none depends on what the key holds
  "v"  values: of a string, and of the fields and members that are asked for
  "*"  everything, down to the key that vanishes with its last element: commands of several types meet on the key

`known`: the contents are known as a whole, since they were read so or since the list itself made them. What follows a command
returns why it would fail, or nil, and changes the state to what would be.
]]

-- A key with more elements is not followed as a whole.
local MOST_ELEMENTS = 1000
-- SET with a time that is past by less may or may not find the key expired: servers take different clocks.
local CLOCK_DOUBT_MS = 500

-- How many elements a key has; nil for a type that has none.
local function count_of(kind, data_key)
  if kind == "hash" then
    return redis.call("HLEN", data_key)
  end
  if kind == "set" then
    return redis.call("SCARD", data_key)
  end
  if kind == "zset" then
    return redis.call("ZCARD", data_key)
  end
  if kind == "list" then
    return redis.call("LLEN", data_key)
  end
  return nil
end

-- A key that is not there, of which then all is known.
local function vanish(state)
  state.type, state.known, state.too_large = "none", true, false
  state.value, state.length, state.float, state.hyperloglog, state.stored, state.last = nil, nil, nil, nil, nil, nil
  state.count, state.elements, state.items, state.head = 0, {}, {}, 1
end

-- The state of a key as it stands, for a command of that type. One that is followed as a whole is read, where it is not too
-- large for that.
local function look_at(data_key, plan, wanted)
  if wanted == "string" then
    -- The way of most: a string that is there tells its type by its length.
    local length = redis.pcall("STRLEN", data_key)
    if type(length) == "number" and length > 0 then
      local value = plan ~= "1" and length <= LONGEST_VALUE and redis.call("GET", data_key) or nil
      return { key = data_key, plan = plan, type = "string", known = false, length = length, value = value }
    end
  end
  local state = { key = data_key, plan = plan }
  vanish(state)
  local kind = redis.call("TYPE", data_key).ok
  if kind == "none" then
    return state
  end
  state.type, state.known = kind, false
  local count = plan == "*" and count_of(kind, data_key)
  if kind == "string" then
    state.length = redis.call("STRLEN", data_key)
    if plan ~= "1" and state.length <= LONGEST_VALUE then
      state.value = redis.call("GET", data_key)
    end
  elseif kind == "stream" then
    state.stored = true
  elseif count then
    state.known = count <= MOST_ELEMENTS
    state.too_large = not state.known
    if state.known and kind == "list" then
      read_items(state)
    elseif state.known then
      read_elements(state)
      -- Fields of a hash that have expired may not be told.
      state.type = state.count > 0 and kind or "none"
    end
  elseif kind == "list" then
    state.count = redis.call("LLEN", data_key)
  end
  return state
end

-- Is the time past, so that the key is gone at once? Never where that is in doubt.
local function is_past(unit, time)
  local ms = tonumber(time) * (string.find(unit, "^P") and 1 or 1000)
  if unit == "EXAT" or unit == "PXAT" then
    return ms < now_ms() - CLOCK_DOUBT_MS
  end
  if unit == "EXPIREAT" or unit == "PEXPIREAT" then
    return ms <= now_ms()
  end
  return ms <= 0
end

local function follow_typed(state, kind, command, first, last)
  if state.type ~= "none" and state.type ~= kind then
    return "wrong_type"
  end
  if kind == "string" then
    return follow_string(state, command, first, last)
  end
  if kind == "stream" then
    return follow_stream(state, command, first)
  end
  if state.too_large then
    return "too_large"
  end
  state.type = kind
  if state.plan == "1" and kind ~= "list" then
    return nil
  end
  local follow_kind = kind == "list" and follow_list or follow_elements
  local reason = follow_kind(state, command, first, last)
  if state.known and state.count == 0 then
    vanish(state)
  end
  return reason
end

local function follow_set_command(state, first, last)
  vanish(state)
  set_value(state, ARGV[first], #ARGV[first])
  for at = first + 1, last, 2 do
    if ARGV[at] ~= "KEEPTTL" and is_past(ARGV[at], ARGV[at + 1]) then
      vanish(state)
    end
  end
end

-- The state of a key by its number.
local function state_of(data, list, number, wanted)
  local state = data[number]
  if not state then
    local data_key, plan = KEYS[list.key + number], string.sub(list.plan, number, number)
    if wanted == "replaced" then
      -- Nothing needs to be known of it. But in Cluster this raises where its write would, while nothing is written yet.
      redis.call("TYPE", data_key)
      state = { key = data_key, plan = plan }
    else
      state = look_at(data_key, plan, wanted)
    end
    data[number] = state
  end
  return state
end

-- Why the effect would fail on the data as the list before it leaves them; nil where it would not. `data` has the states.
local function follow(data, list, effect)
  local name, kind, first, last = effect.name, effect.type, effect.first, effect.last
  if kind == "none" then
    return nil
  end
  if kind == "seen" then
    return follow_mark(list, effect)
  end
  if name == "UNLINK" then
    vanish(state_of(data, list, effect.number, "replaced"))
    for at = first, last do
      vanish(state_of(data, list, tonumber(ARGV[at]), "replaced"))
    end
    return nil
  end
  if name == "SET" then
    follow_set_command(state_of(data, list, effect.number, "replaced"), first, last)
    return nil
  end
  local state = state_of(data, list, effect.number, kind)
  if kind ~= "any" then
    return follow_typed(state, kind, name, first, last)
  end
  if name ~= "PERSIST" and is_past(name, ARGV[first]) then
    vanish(state)
  end
  return nil
end
