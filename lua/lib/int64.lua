--[[
Signed 64-bit integers as decimal strings. Lua's numbers are doubles and lose digits past 2^53, so that an overflow near
2^63 could not be foreseen with them.
]]

local HALF_BASE = 1000000000

-- As Redis reads one: no sign but a minus, no leading zeros, no "-0".
local function is_int64(text)
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
    text = string.format("-%.0f%09.0f", -high, -low)
  else
    text = string.format("%.0f%09.0f", high, low)
  end
  return is_int64(text) and text or nil
end

local function negate_int64(text)
  return string.sub(text, 1, 1) == "-" and string.sub(text, 2) or "-" .. text
end
