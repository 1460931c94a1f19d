--[[
Effects: conditions and writes of one entry, all of them or none.

Redis rolls nothing back, so every write is checked against the data before the first is made. The check follows the
list: what an earlier command makes of a key counts for the later ones. lib/follow.lua does that for one command.

Words    per effect: name, type, number of its key among the entry's keys (0: none), number of arguments, arguments
Names    lower case: a condition; upper case: a command, the first argument of which is the key
           equals value | hash_equals field, value | exists | absent | version field, expected (raises it as well)
           UNLINK has the numbers of its further keys as arguments, PUBLISH its channel
           SEEN buckets, bucket_ms, digest: the mark of an id, its key being the first of so many buckets (lib/seen.lua)
           MARK, the same and kept_ms: the mark of the record itself, which is then kept for that long, without a result.
           It is told before all others and made after them, so that a commit that breaks off has not made it
Types    what the key must be for the write: a type of Redis', "any" for a command that takes each, "none" where there is
         no write, or no key; "seen" for marks
Plan     one letter a key: how much of its contents matters, see lib/follow.lua
]]

-- What the words say, each effect as a table; an empty list where there are none.
local function parse_effects(effects)
  if not effects then
    return {}
  end
  local list, at, last = { plan = effects.plan, key = effects.key }, effects.first, effects.last
  while at <= last do
    local name, number, count = ARGV[at], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local is_condition = string.find(name, "^%l") ~= nil
    list[#list + 1] = {
      name = name,
      type = ARGV[at + 1],
      number = number,
      key = number > 0 and KEYS[effects.key + number] or nil,
      first = at + 4,
      last = at + 3 + count,
      is_condition = is_condition,
      is_write = not is_condition or name == "version",
    }
    list.has_conditions = list.has_conditions or is_condition
    at = at + 4 + count
  end
  if list[1] and list[1].name == "MARK" then
    list.mark = table.remove(list, 1)
    list[#list + 1] = list.mark
  end
  return list
end

local function holds(condition)
  local name, data_key, first = condition.name, condition.key, condition.first
  if name == "equals" then
    return unless_wrong_type(redis.pcall("GET", data_key)) == ARGV[first]
  end
  if name == "hash_equals" then
    return unless_wrong_type(redis.pcall("HGET", data_key, ARGV[first])) == ARGV[first + 1]
  end
  if name == "version" then
    local version = unless_wrong_type(redis.pcall("HGET", data_key, ARGV[first]))
    return version ~= nil and (version or "0") == ARGV[first + 1]
  end
  return (redis.call("EXISTS", data_key) == 1) == (name == "exists")
end

-- The number of the first condition that does not hold; nil where all do. And the number of the first one of all.
local function find_conflict(list)
  if not list.has_conditions then
    return nil
  end
  local first
  for index, effect in ipairs(list) do
    if effect.is_condition then
      first = first or string.format("%.0f", index)
      if not holds(effect) then
        return string.format("%.0f", index), first
      end
    end
  end
  return nil, first
end

-- What Redis is to be asked to do for a write: a command, its key, and its arguments.
local function command_of(effect, list)
  local name, data_key = effect.name, effect.key
  if effect.is_condition then
    return "HINCRBY", data_key, ARGV[effect.first], "1"
  end
  if name == "UNLINK" then
    local keys = {}
    for at = effect.first, effect.last do
      keys[#keys + 1] = KEYS[list.key + tonumber(ARGV[at])]
    end
    return name, data_key, unpack(keys)
  end
  if data_key then
    return name, data_key, unpack(ARGV, effect.first, effect.last)
  end
  return name, unpack(ARGV, effect.first, effect.last)
end

-- Why the server would refuse the command itself: it is renamed, or the user may not give it. A server that cannot be
-- asked, one before 7.0, has no known command: nothing is written where that could break off.
local function refusal_of(...)
  local known, allowed = pcall(redis.acl_check_cmd, ...)
  if not known then
    return "unknown_command"
  end
  return not allowed and "no_permission" or nil
end

-- The same for an effect.
local function refusal_of_effect(effect, list)
  if effect.type == "seen" then
    return refusal_of("SADD", effect.key, "0") or refusal_of("PEXPIREAT", effect.key, "0")
  end
  return refusal_of(command_of(effect, list))
end

-- Commands that fail as a whole, or not at all: the one write of an entry need not be foreseen, if it is one of these. A
-- mark is none of them: it is several commands, and made by what was found of it.
local WHOLE = {
  INCR = true,
  INCRBY = true,
  DECR = true,
  DECRBY = true,
  HSET = true,
  HINCRBY = true,
  SADD = true,
  LPUSH = true,
  RPUSH = true,
}

-- The number of the first effect that could not be made, and why; nil where all can.
local function check_effects(list)
  local data = {}
  for index, effect in ipairs(list) do
    local reason = effect.is_write and (refusal_of_effect(effect, list) or follow(data, list, effect))
    if reason then
      return string.format("%.0f", index), reason
    end
  end
  return nil
end

-- The same, where a write that fails would leave others made.
local function find_rejected(list)
  if #list == 1 and WHOLE[list[1].name] then
    return nil
  end
  return check_effects(list)
end

-- A reply in RESP 2. No command here answers with an array.
local function encode_reply(reply)
  local kind = type(reply)
  if kind == "number" then
    return string.format(":%.0f\r\n", reply)
  end
  if kind == "string" then
    return "$" .. #reply .. "\r\n" .. reply .. "\r\n"
  end
  if kind == "boolean" then
    return "$-1\r\n"
  end
  return "+" .. reply.ok .. "\r\n"
end

-- Below this Lua prints all digits of a number by itself, and faster.
local SHORT_NUMBER = 1e14

-- A reply, encoded. An integer past 2^53 has lost digits: the value is read back.
local function encode_exactly(reply, effect)
  local data_key = effect.key
  if type(reply) == "number" and math.abs(reply) < SHORT_NUMBER then
    return ":" .. reply .. "\r\n"
  end
  if type(reply) ~= "number" or math.abs(reply) < 2 ^ 53 then
    return encode_reply(reply)
  end
  if effect.name == "HINCRBY" then
    return ":" .. redis.call("HGET", data_key, ARGV[effect.first]) .. "\r\n"
  end
  return ":" .. redis.call("GET", data_key) .. "\r\n"
end

-- Makes one write. Returns whether Redis took it, and what it answered.
local function write(list, effect)
  if effect.type == "seen" then
    return pcall(make_mark, list, effect)
  end
  return pcall(redis.call, command_of(effect, list))
end

-- Makes all writes. Returns the number of the one that failed and its error's code, if one did; whether one was made
-- before it; and the replies, which are told apart by nobody but their caller.
local function write_effects(list)
  local replies, written = {}, false
  for index, effect in ipairs(list) do
    if effect.is_write then
      local ran, reply = write(list, effect)
      if not ran and error_code(reply) == "OOM" then
        -- Memory refuses no more than the first write of a script. What came before was none: a message, a mark that is there.
        begin_writes(KEYS[list.key])
        ran, reply = write(list, effect)
      end
      if not ran then
        -- Why, in the words of the check, which a lone write was spared. The check may raise, which after a write would hide it.
        local reason
        if not written then
          local _, found = check_effects(list)
          reason = found
        end
        return string.format("%.0f", index), reason or error_code(reply), written, ""
      end
      written = true
      if not effect.is_condition then
        local encoded, text = pcall(encode_exactly, reply, effect)
        replies[#replies + 1] = encoded and text or encode_reply(reply)
      end
    end
  end
  return nil, nil, written, table.concat(replies)
end

-- Memory is judged by the first write of a script alone. This one changes nothing, and is refused where memory is: once
-- it was not, nothing is.
local memory_asked = false

local function ask_memory(record_key)
  if not memory_asked then
    redis.call("SETRANGE", record_key, 0, "")
    memory_asked = true
  end
end

-- Most commits bring no effects: a script makes its functions when it starts, and these only where an entry has use for
-- them. The build puts into a function `make_...` whatever nothing else needs.
local effects_made

local function make_effects()
  return { parse_effects, find_conflict, find_rejected, write_effects }
end

-- The list of the effects, and what is to be done with it.
local function effects_of(effects)
  effects_made = effects_made or make_effects()
  local parse, conflict, rejected, write = unpack(effects_made)
  return conflict, rejected, write, parse(effects)
end
