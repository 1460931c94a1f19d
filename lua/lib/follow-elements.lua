--[[
What commands make of hashes, sets and sorted sets: of elements that have names, and each of which may be asked for. An
element is a field's value (a number after a float command), a member's score, or true for a member of a set; false where
it is known not to be there.
]]

local function read_elements(state)
  local kind, data_key = state.type, state.key
  if kind == "set" then
    local members = redis.call("SMEMBERS", data_key)
    for _, member in ipairs(members) do
      state.elements[member] = true
    end
    state.count = #members
    return
  end
  local flat = kind == "hash" and redis.call("HGETALL", data_key) or redis.call("ZRANGE", data_key, 0, -1, "WITHSCORES")
  for at = 1, #flat, 2 do
    state.elements[flat[at]] = kind == "zset" and tonumber(flat[at + 1]) or flat[at + 1]
  end
  state.count = #flat / 2
end

-- The element of that name, or nil.
local function element_of(state, name)
  local element, data_key = state.elements[name], state.key
  if element ~= nil or state.known then
    return element or nil
  end
  if state.type == "hash" then
    return redis.call("HGET", data_key, name) or nil
  end
  local score = redis.call("ZSCORE", data_key, name)
  return score and tonumber(score) or nil
end

local function put_element(state, name, element)
  if not state.elements[name] then
    state.count = state.count + 1
  end
  state.elements[name] = element
end

local function drop_element(state, name)
  if state.elements[name] then
    state.count = state.count - 1
  end
  state.elements[name] = false
end

local function follow_hash(state, command, first, last)
  if command == "HSET" then
    for at = first, last, 2 do
      put_element(state, ARGV[at], ARGV[at + 1])
    end
    return nil
  end
  local field, argument = ARGV[first], ARGV[first + 1]
  local value = element_of(state, field)
  if command == "HSETNX" then
    if not value then
      put_element(state, field, argument)
    end
    return nil
  end
  local add = command == "HINCRBYFLOAT" and add_float or add_integer
  local sum, reason = add(value or "0", command == "version" and "1" or argument)
  put_element(state, field, sum)
  return reason
end

-- The flags in front of ZADD's and GEOADD's pairs, and where the pairs begin.
local function zadd_flags(first)
  local flags = {}
  while string.find(ARGV[first], "^%u%u$") do
    flags[ARGV[first]] = true
    first = first + 1
  end
  return flags, first
end

local function follow_zadd(state, first, last, width)
  local flags, from = zadd_flags(first)
  for at = from, last, width do
    -- A place's score is another number than its longitude: which one is no matter.
    local score, member = tonumber(ARGV[at]), ARGV[at + width - 1]
    local conditional = flags.NX or flags.XX or flags.GT or flags.LT
    local old = conditional and element_of(state, member)
    local refused = (flags.NX and old) or (flags.XX and not old) or (flags.GT and old and score <= old) or (flags.LT and old and score >= old)
    if not refused then
      put_element(state, member, score)
    end
  end
  return nil
end

-- Byte by byte, as Redis compares: Lua's `<` goes by the server's locale.
local function is_before(a, b)
  for at = 1, math.min(#a, #b) do
    local left, right = string.byte(a, at), string.byte(b, at)
    if left ~= right then
      return left < right
    end
  end
  return #a < #b
end

local function by_rank(state)
  local members = {}
  for member, score in pairs(state.elements) do
    if score then
      members[#members + 1] = member
    end
  end
  table.sort(members, function(a, b)
    local left, right = state.elements[a], state.elements[b]
    if left ~= right then
      return left < right
    end
    return is_before(a, b)
  end)
  return members
end

local function is_within(score, bound, below)
  local text = string.match(bound, "^%((.*)$")
  local limit = tonumber(text or bound)
  if text and score == limit then
    return false
  end
  return score == limit or (score < limit) == below
end

local function follow_zset(state, command, first, last)
  if command == "ZADD" then
    return follow_zadd(state, first, last, 2)
  end
  if command == "GEOADD" then
    return follow_zadd(state, first, last, 3)
  end
  if command == "ZINCRBY" then
    local by, member = tonumber(ARGV[first]), ARGV[first + 1]
    local sum = (element_of(state, member) or 0) + by
    -- The sum of two infinities.
    if sum ~= sum then
      return "not_a_number"
    end
    put_element(state, member, sum)
    return nil
  end
  -- Where not all are known, which are left is no matter: the plan would have had them read.
  local members = by_rank(state)
  if command == "ZREMRANGEBYRANK" then
    local start, stop = range_of(ARGV[first], ARGV[first + 1], #members)
    for at = start, stop do
      drop_element(state, members[at + 1])
    end
    return nil
  end
  for _, member in ipairs(members) do
    local score = state.elements[member]
    if is_within(score, ARGV[first], false) and is_within(score, ARGV[first + 1], true) then
      drop_element(state, member)
    end
  end
  return nil
end

local function follow_elements(state, command, first, last)
  if command == "HDEL" or command == "SREM" or command == "ZREM" then
    for at = first, last do
      drop_element(state, ARGV[at])
    end
    return nil
  end
  if command == "SADD" then
    for at = first, last do
      put_element(state, ARGV[at], true)
    end
    return nil
  end
  if state.type == "hash" then
    return follow_hash(state, command, first, last)
  end
  return follow_zset(state, command, first, last)
end
