--[[
Numbers as Redis calculates with them. Integers are decimal strings: Lua's numbers are doubles and lose digits past 2^53, so
that an overflow near 2^63 could not be foreseen with them. Floats are calculated nearly: Redis has more digits.
]]

local LARGEST_FLOAT = 1e308
-- Redis reads no float of more characters.
local LONGEST_FLOAT = 5120
local HALF_BASE = 1000000000

-- Of this many characters a sum of two is exact in a double.
local SHORT_INTEGER = 15

-- As Redis reads one: no sign but a minus, no leading zeros, no "-0".
local function is_int64(text)
  if #text <= SHORT_INTEGER and string.find(text, "^%-?[1-9]%d*$") then
    return true
  end
  local sign, digits = string.match(text, "^(%-?)([1-9]%d*)$")
  if not digits then
    return text == "0"
  end
  if #digits < 19 then
    return true
  end
  return #digits == 19 and digits <= (sign == "" and "9223372036854775807" or "9223372036854775808")
end

-- The two halves of an integer, each with its sign.
local function halves_of(text)
  local sign, digits = string.match(text, "^(%-?)(%d+)$")
  local factor = sign == "-" and -1 or 1
  local high, low = string.match(digits, "^(%d-)(%d?%d?%d?%d?%d?%d?%d?%d?%d)$")
  return factor * (tonumber(high) or 0), factor * tonumber(low)
end

-- The sum of two integers, or nil where it is none of 64 bits.
local function add_int64(a, b)
  if #a <= SHORT_INTEGER and #b <= SHORT_INTEGER then
    return string.format("%.0f", a + b)
  end
  local high_a, low_a = halves_of(a)
  local high_b, low_b = halves_of(b)
  local high, low = high_a + high_b, low_a + low_b
  local carry = math.floor(low / HALF_BASE)
  high, low = high + carry, low - carry * HALF_BASE
  if high < 0 and low > 0 then
    high, low = high + 1, low - HALF_BASE
  end
  local text
  if high == 0 then
    text = string.format("%.0f", low)
  elseif high < 0 then
    -- Not `-low`: of 0 that is -0, and its sign is printed.
    text = string.format("-%.0f%09.0f", math.abs(high), math.abs(low))
  else
    text = string.format("%.0f%09.0f", high, low)
  end
  return is_int64(text) and text or nil
end

local function negate_int64(text)
  return string.sub(text, 1, 1) == "-" and string.sub(text, 2) or "-" .. text
end

local function is_float(text)
  local mantissa = string.gsub(text, "[eE][-+]?%d+$", "")
  return string.find(mantissa, "^[-+]?%d+%.?%d*$") ~= nil or string.find(mantissa, "^[-+]?%.%d+$") ~= nil
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
  if not (math.abs(sum) <= LARGEST_FLOAT) then
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
