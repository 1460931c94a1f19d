--[[
The walk over a list of independent calls, shared by every script.

Each entry runs in a pcall of its own: what one raises is its own answer and nobody else's. Of an error only its code
is told ("OOM", "NOPERM", "WRONGTYPE", or "LUA" for a fault of ours): an error reply would reach every entry, and error
texts may hold what the caller wrote.
]]

local function error_code(raised)
  local text = type(raised) == "table" and raised.err or tostring(raised)
  return string.match(text, "%f[%u]%u[%u%d]+%f[^%u%d]") or "LUA"
end

local function each_entry(entry, width)
  local replies = {}
  for index = 1, #KEYS do
    local first = (index - 1) * width + 1
    local ran, reply = pcall(entry, KEYS[index], unpack(ARGV, first, first + width - 1))
    replies[index] = ran and reply or { "refused", error_code(reply) }
  end
  return replies
end
