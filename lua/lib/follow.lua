--[[
What a command would make of the data, without making it: one function for each type of key.

A key's state is a table: `type` ("none" where there is no key) and what of its contents matters, which the caller's plan
tells for each key:

  "1"  nothing: all commands are of one type, and none depends on what the key holds
  "v"  values: of a string, and of the fields and members that are asked for
  "*"  everything, down to the key that vanishes with its last element: commands of several types meet on the key

`known`: the contents are known as a whole, since they were read so or since the list itself made them. Each function
returns why the command would fail, or nil, and changes the state to what would be.
]]

-- A string up to this long is read whole: longer ones are no numbers, and no HyperLogLog.
local LONGEST_VALUE = 20000
-- A key with more elements is not followed as a whole.
local MOST_ELEMENTS = 1000
-- No server's limit on the length of a string, proto-max-bulk-len, is below this.
local LEAST_LIMIT = 1048576
-- SET with a time that is past by less may or may not find the key expired: servers take different clocks.
local CLOCK_DOUBT_MS = 500
local LARGEST_FLOAT = 1e308
-- Redis reads no float of more characters.
local LONGEST_FLOAT = 5120
local LAST_HALF_ID = "18446744073709551615"

local function read_hash(state, data_key)
  state.fields = {}
  local pairs_of = redis.call("HGETALL", data_key)
  for at = 1, #pairs_of, 2 do
    state.fields[pairs_of[at]] = pairs_of[at + 1]
  end
  state.count = #pairs_of / 2
end

local function read_set(state, data_key)
  state.members = {}
  local members = redis.call("SMEMBERS", data_key)
  for _, member in ipairs(members) do
    state.members[member] = true
  end
  state.count = #members
end

local function read_zset(state, data_key)
  state.scores = {}
  local pairs_of = redis.call("ZRANGE", data_key, 0, -1, "WITHSCORES")
  for at = 1, #pairs_of, 2 do
    state.scores[pairs_of[at]] = tonumber(pairs_of[at + 1])
  end
  state.count = #pairs_of / 2
end

local function read_list(state, data_key)
  state.items = redis.call("LRANGE", data_key, 0, -1)
  state.count = #state.items
end

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
  return 0
end

-- The state of a key as it stands. One that is followed as a whole is read, where it is not too large for that.
local function look_at(data_key, plan)
  local kind = redis.call("TYPE", data_key).ok
  local state = { type = kind, key = data_key, plan = plan, known = kind == "none", count = 0 }
  state.fields, state.members, state.scores, state.items = {}, {}, {}, {}
  if kind == "string" then
    state.length = redis.call("STRLEN", data_key)
    if plan ~= "1" and state.length <= LONGEST_VALUE then
      state.value = redis.call("GET", data_key)
    end
  elseif kind == "stream" then
    state.stored = true
  elseif kind == "list" then
    state.count = redis.call("LLEN", data_key)
  end
  if plan == "*" and count_of(kind, data_key) > MOST_ELEMENTS then
    state.too_large = true
  elseif plan == "*" then
    state.known = true
    if kind == "hash" then
      read_hash(state, data_key)
      -- Fields that have expired may not be told.
      state.type = state.count > 0 and kind or "none"
    elseif kind == "set" then
      read_set(state, data_key)
    elseif kind == "zset" then
      read_zset(state, data_key)
    elseif kind == "list" then
      read_list(state, data_key)
    end
  end
  return state
end

local function vanish(state)
  state.type, state.known, state.too_large = "none", true, false
  state.value, state.length, state.float, state.hyperloglog, state.stored, state.last = nil, nil, nil, nil, nil, nil
  state.count, state.fields, state.members, state.scores, state.items = 0, {}, {}, {}, {}
end

-- Would the string be longer than the server allows? GETBIT refuses the offsets that writes refuse, at the same length.
local function is_too_long(state, bytes)
  if bytes <= LEAST_LIMIT then
    return false
  end
  local data_key = state.key
  local reply = redis.pcall("GETBIT", data_key, string.format("%.0f", (bytes - 1) * 8))
  return type(reply) == "table" and not string.find(reply.err, "WRONGTYPE", 1, true)
end

local function is_float(text)
  return string.find(text, "^[-+]?%d+%.?%d*$") ~= nil
    or string.find(text, "^[-+]?%.%d+$") ~= nil
    or string.find(text, "^[-+]?%d+%.?%d*[eE][-+]?%d+$") ~= nil
end

-- What INCRBYFLOAT and HINCRBYFLOAT make of a value, nearly: the server calculates with more digits.
local function add_float(value, by)
  local number = value
  if type(value) == "string" then
    number = #value < LONGEST_FLOAT and is_float(value) and tonumber(value) or nil
  end
  if not number then
    return nil, "not_a_float"
  end
  local sum = number + tonumber(by)
  if not (math.abs(number) <= LARGEST_FLOAT and math.abs(sum) <= LARGEST_FLOAT) then
    return nil, "out_of_range"
  end
  return sum
end

-- What INCRBY and HINCRBY make of a value.
local function add_integer(value, by)
  if type(value) ~= "string" or not is_int64(value) then
    return nil, "not_an_integer"
  end
  local sum = add_int64(value, by)
  return sum, not sum and "out_of_range" or nil
end

-- Do the opcodes of a sparse HyperLogLog stand for all its registers?
local function are_whole_opcodes(value)
  local at, registers = 17, 0
  while at <= #value do
    local byte = string.byte(value, at)
    if byte < 64 then
      registers = registers + byte + 1
    elseif byte < 128 then
      local low = string.byte(value, at + 1)
      if not low then
        return false
      end
      registers = registers + (byte - 64) * 256 + low + 1
      at = at + 1
    else
      registers = registers + byte % 4 + 1
    end
    at = at + 1
  end
  return registers == 16384
end

-- Whether PFADD may fail on a damaged one depends on the elements, and without any only the header counts.
local function is_hyperloglog(value, has_elements)
  if not value or string.sub(value, 1, 4) ~= "HYLL" or #value < 16 then
    return false
  end
  local encoding = string.byte(value, 5)
  if encoding == 0 then
    return #value == 12304
  end
  return encoding == 1 and (not has_elements or are_whole_opcodes(value))
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

-- Puts bytes at a place of a value, which is filled up with zero bytes.
local function overlay(value, offset, bytes)
  local head = string.sub(value, 1, offset)
  return head .. string.rep("\0", offset - #head) .. bytes .. string.sub(value, offset + #bytes + 1)
end

local function with_bit(value, offset, bit_value)
  local at = math.floor(offset / 8)
  local byte = string.byte(value, at + 1) or 0
  local mask = 2 ^ (7 - offset % 8)
  local without = byte - (math.floor(byte / mask) % 2) * mask
  return overlay(value, at, string.char(without + mask * bit_value))
end

local function set_value(state, value, length)
  state.type, state.value, state.length = "string", value and length <= LONGEST_VALUE and value or nil, length
  state.float, state.hyperloglog = nil, nil
end

local function follow_string(state, command, first, last)
  local value, length = state.value, state.length
  if state.type == "none" then
    value, length = "", 0
  end
  if command == "APPEND" then
    local bytes = ARGV[first]
    if state.type ~= "none" and is_too_long(state, length + #bytes) then
      return "too_long"
    end
    return set_value(state, value and value .. bytes, length + #bytes)
  end
  if command == "SETRANGE" then
    local offset, bytes = tonumber(ARGV[first]), ARGV[first + 1]
    if bytes == "" then
      return nil
    end
    if is_too_long(state, offset + #bytes) then
      return "too_long"
    end
    local new_length = math.max(length, offset + #bytes)
    return set_value(state, value and new_length <= LONGEST_VALUE and overlay(value, offset, bytes), new_length)
  end
  if command == "SETBIT" then
    local offset = tonumber(ARGV[first])
    local bytes = math.floor(offset / 8) + 1
    if is_too_long(state, bytes) then
      return "too_long"
    end
    local new_length = math.max(length, bytes)
    local short = value and new_length <= LONGEST_VALUE
    return set_value(state, short and with_bit(value, offset, tonumber(ARGV[first + 1])), new_length)
  end
  if command == "PFADD" then
    if state.type ~= "none" and not state.hyperloglog and not is_hyperloglog(value, first <= last) then
      return "not_a_hyperloglog"
    end
    if first <= last or state.type == "none" then
      set_value(state, nil, LONGEST_VALUE)
      state.hyperloglog = true
    end
    return nil
  end
  if command == "INCRBYFLOAT" then
    local sum, reason = add_float(state.float or (state.type == "none" and "0") or value, ARGV[first])
    if not sum then
      return reason
    end
    set_value(state, nil, LONGEST_VALUE)
    state.float = sum
    return nil
  end

  local by = "1"
  if command == "INCRBY" or command == "DECRBY" then
    by = ARGV[first]
  end
  if command == "DECR" or command == "DECRBY" then
    by = negate_int64(by)
  end
  local sum, reason = add_integer(state.type == "none" and "0" or value, by)
  if not sum then
    return reason
  end
  return set_value(state, sum, #sum)
end

-- A field's value: a string, a number after a float command, or nil.
local function field_of(state, field)
  local value, data_key = state.fields[field], state.key
  if value == nil and not state.known then
    value = redis.call("HGET", data_key, field)
  end
  return value or nil
end

local function set_field(state, field, value)
  if state.known and not state.fields[field] then
    state.count = state.count + 1
  end
  state.fields[field] = value
end

local function follow_hash(state, command, first, last)
  if command == "HDEL" then
    for at = first, last do
      if state.known and state.fields[ARGV[at]] then
        state.count = state.count - 1
      end
      state.fields[ARGV[at]] = false
    end
    return nil
  end
  if command == "HSET" then
    for at = first, last, 2 do
      set_field(state, ARGV[at], ARGV[at + 1])
    end
    return nil
  end
  local field, argument = ARGV[first], ARGV[first + 1]
  local value = field_of(state, field)
  if command == "HSETNX" then
    if not value then
      set_field(state, field, argument)
    end
    return nil
  end
  local add = command == "HINCRBYFLOAT" and add_float or add_integer
  local sum, reason = add(value or "0", command == "version" and "1" or argument)
  if sum then
    set_field(state, field, sum)
  end
  return reason
end

local function follow_set(state, command, first, last)
  for at = first, last do
    local member = ARGV[at]
    if command == "SADD" and not state.members[member] then
      state.members[member], state.count = true, state.count + 1
    elseif command == "SREM" and state.members[member] then
      state.members[member], state.count = nil, state.count - 1
    end
  end
  return nil
end

local function score_of(state, member)
  local score, data_key = state.scores[member], state.key
  if score == nil and not state.known then
    score = redis.call("ZSCORE", data_key, member)
    score = score and tonumber(score)
  end
  return score or nil
end

local function set_score(state, member, score)
  if state.known and not state.scores[member] then
    state.count = state.count + 1
  end
  state.scores[member] = score
end

local function drop_score(state, member)
  if state.known and state.scores[member] then
    state.count = state.count - 1
  end
  state.scores[member] = false
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
    local score, member = tonumber(ARGV[at]), ARGV[at + width - 1]
    -- A place on earth is a score of 52 bits: which one is no matter.
    score = width == 2 and score or 0
    local conditional = flags.NX or flags.XX or flags.GT or flags.LT
    local old = conditional and score_of(state, member)
    local refused = (flags.NX and old) or (flags.XX and not old) or (flags.GT and old and score <= old) or (flags.LT and old and score >= old)
    if not refused then
      set_score(state, member, score)
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
  for member, score in pairs(state.scores) do
    if score then
      members[#members + 1] = member
    end
  end
  table.sort(members, function(a, b)
    local left, right = state.scores[a], state.scores[b]
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

-- A range as Redis reads it, of `count` elements; from 0. Empty where the first is greater than the last.
local function range_of(start, stop, count)
  start, stop = tonumber(start), tonumber(stop)
  start = math.max(start < 0 and start + count or start, 0)
  stop = math.min(stop < 0 and stop + count or stop, count - 1)
  return start, stop
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
    local sum = (score_of(state, member) or 0) + by
    -- The sum of two infinities.
    if sum ~= sum then
      return "not_a_number"
    end
    set_score(state, member, sum)
    return nil
  end
  if command == "ZREM" then
    for at = first, last do
      drop_score(state, ARGV[at])
    end
    return nil
  end
  -- Which of the unasked are left is no matter then: the plan would have had them all read.
  if not state.known then
    return nil
  end
  local members = by_rank(state)
  if command == "ZREMRANGEBYRANK" then
    local start, stop = range_of(ARGV[first], ARGV[first + 1], #members)
    for at = start, stop do
      drop_score(state, members[at + 1])
    end
    return nil
  end
  for _, member in ipairs(members) do
    local score = state.scores[member]
    if is_within(score, ARGV[first], false) and is_within(score, ARGV[first + 1], true) then
      drop_score(state, member)
    end
  end
  return nil
end

local function remove_items(items, count, value)
  local from, to, step = 1, #items, 1
  if count < 0 then
    from, to, step = #items, 1, -1
  end
  local left = count == 0 and #items or math.abs(count)
  for at = from, to, step do
    if left > 0 and items[at] == value then
      items[at], left = false, left - 1
    end
  end
  local kept = {}
  for _, item in ipairs(items) do
    if item then
      kept[#kept + 1] = item
    end
  end
  return kept
end

local function follow_list(state, command, first, last)
  if command == "LSET" then
    if state.type == "none" then
      return "no_such_key"
    end
    local index = tonumber(ARGV[first])
    local at = index < 0 and index + state.count or index
    if at < 0 or at >= state.count then
      return "out_of_range"
    end
    if state.known then
      state.items[at + 1] = ARGV[first + 1]
    end
    return nil
  end
  if command == "LTRIM" then
    local start, stop = range_of(ARGV[first], ARGV[first + 1], state.count)
    if state.known then
      state.items = start <= stop and { unpack(state.items, start + 1, stop + 1) } or {}
    end
    state.count = math.max(stop - start + 1, 0)
    return nil
  end
  if command == "LREM" then
    if state.known then
      state.items = remove_items(state.items, tonumber(ARGV[first]), ARGV[first + 1])
      state.count = #state.items
    end
    return nil
  end
  if string.find(command, "X$") and state.count == 0 then
    return nil
  end
  for at = first, last do
    if state.known then
      table.insert(state.items, string.find(command, "^L") and 1 or #state.items + 1, ARGV[at])
    end
    state.count = state.count + 1
  end
  return nil
end

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

local function after_digits(digits)
  local head, last, nines = string.match(digits, "^(%d-)([0-8]?)(9*)$")
  return head .. (last == "" and "1" or string.format("%d", tonumber(last) + 1)) .. string.rep("0", #nines)
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
    -- Of this moment: which one is no matter, but for a stream whose ids are at their end.
    id = last_id[1] == LAST_HALF_ID and { last_id[1], after_digits(last_id[2]) } or last_id
  elseif not is_later(id, last_id) then
    return "stream_id"
  end
  state.last = id
  return nil
end

local function follow_elements(state, kind, command, first, last)
  if kind == "hash" then
    return follow_hash(state, command, first, last)
  end
  if kind == "set" then
    return follow_set(state, command, first, last)
  end
  if kind == "zset" then
    return follow_zset(state, command, first, last)
  end
  return follow_list(state, command, first, last)
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
  local reason = follow_elements(state, kind, command, first, last)
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

-- Why the effect would fail on the data as the list before it leaves them; nil where it would not. `data` has the states.
local function follow(data, list, effect)
  local name, kind, first, last = effect.name, effect.type, effect.first, effect.last
  local function state_of(number, is_replaced)
    local data_key, plan = KEYS[list.key + number], string.sub(list.plan, number, number)
    if not data[number] then
      data[number] = is_replaced and { key = data_key, plan = plan } or look_at(data_key, plan)
    end
    return data[number]
  end

  -- A condition is in lower case. One that makes nothing takes any type; `version` takes a hash, and raises a field of it.
  if kind == "none" or (kind == "any" and string.find(name, "^%l")) then
    return nil
  end
  if name == "UNLINK" then
    vanish(state_of(effect.number, true))
    for at = first, last do
      vanish(state_of(tonumber(ARGV[at]), true))
    end
    return nil
  end
  if name == "SET" then
    follow_set_command(state_of(effect.number, true), first, last)
    return nil
  end
  local state = state_of(effect.number, false)
  if kind ~= "any" then
    return follow_typed(state, kind, name, first, last)
  end
  if name ~= "PERSIST" and is_past(name, ARGV[first]) then
    vanish(state)
  end
  return nil
end
