--[[
What string commands make of a key. Its value is known up to some length, and not after a command whose result only the
server can calculate: then it is a float, nearly, or a HyperLogLog.
]]

-- A string up to this long is read whole: longer ones are no numbers, and no HyperLogLog.
local LONGEST_VALUE = 20000
-- No server's limit on the length of a string, proto-max-bulk-len, is below this.
local LEAST_LIMIT = 1048576

-- Would the string be longer than the server allows? GETBIT refuses the offsets that writes refuse, at the same length.
local function is_too_long(state, bytes)
  if bytes <= LEAST_LIMIT then
    return false
  end
  local data_key = state.key
  local reply = redis.pcall("GETBIT", data_key, string.format("%.0f", (bytes - 1) * 8))
  return type(reply) == "table" and not string.find(reply.err, "WRONGTYPE", 1, true)
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
    if is_too_long(state, length + #bytes) then
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
