--[[
The record: one string a dedup key. The only place that knows its layout; docs/protocol.md draws it, docs/adr/0001
says why it is a packed string.

  offset  bytes  every state
       0      1  layout version, 1
       1      1  state: R in progress, C completed, F failed, X failed by exhausted attempts, L released, B broken
       2      1  shape, bits: 1 a fingerprint follows, 2 born follows, 4 somebody waits, 8 of apply (else of once)
       3      4  attempt: how often a handler may have begun
       7      7  fence
      14      8  first half of the owner's token
                 R and B (a broken record is a running one whose writes broke off)
      22      8  second half of the owner's token
      30      6  end of the lease, ms since 1970
      36      4  length of the lease, ms
      40      2  run: how often a commit of this attempt found a condition that did not hold
                 R, B, L, X
       .      4  failures: attempts that crashed, lost their lease or were released
                 as the shape says
       .      7  born: the fence of the record's first attempt, where it is not the present fence
       .     16  fingerprint
                 R, B, L
       .    8*n  first halves of the last given-up tokens, newest first
                 C and F
       .      *  the result, or the failure

All numbers are big-endian and unsigned.
]]

local LAYOUT = 1
local STATES = "RCFXLB"
local IN_PROGRESS, COMPLETED, FAILED, EXHAUSTED, RELEASED, BROKEN = "R", "C", "F", "X", "L", "B"

local HAS_FINGERPRINT = 1
local HAS_BORN = 2
local HAS_WAITERS = 4
local OF_APPLY = 8

local STATE_OFFSET = 1
local SHAPE_OFFSET = 2
local LEASE_OFFSET = 30
local RUN_OFFSET = 40
local HALF = 8
local MOST_GIVEN_UP = 8
local SHORTEST_TTL_MS = 60000

local function has(shape, flag)
  return bit.band(shape, flag) ~= 0
end

-- The record as a table; raises where the bytes end too soon.
local function fields_of(raw)
  local record = {}
  local state, shape, attempt, fence, half, at = struct.unpack(">c1BI4I7c8", raw, 2)
  record.state, record.shape, record.attempt, record.fence, record.half = state, shape, attempt, fence, half
  if state == IN_PROGRESS or state == BROKEN then
    record.other_half, record.lease_end, record.lease_ms, record.run, at = struct.unpack(">c8I6I4I2", raw, at)
  end
  if state ~= COMPLETED and state ~= FAILED then
    record.failures, at = struct.unpack(">I4", raw, at)
  end
  record.born = fence
  if has(shape, HAS_BORN) then
    record.born, at = struct.unpack(">I7", raw, at)
  end
  if has(shape, HAS_FINGERPRINT) then
    record.fingerprint = string.sub(raw, at, at + 15)
    at = at + 16
  end
  record.rest = string.sub(raw, at)
  return record
end

-- The record as a table, or nil where the bytes are not of this layout.
local function parse(raw)
  if string.byte(raw, 1) ~= LAYOUT or not string.find(STATES, string.sub(raw, 2, 2), 1, true) then
    return nil
  end
  local whole, record = pcall(fields_of, raw)
  return whole and record or nil
end

-- What is left of a lease, in ms. A lease that ends further away than it is long was written before the clock went back.
local function lease_left(record)
  return math.max(0, math.min(record.lease_end - now_ms(), record.lease_ms))
end

-- The bytes of a record. Its `rest` is the given-up tokens, the result or the failure.
local function pack(record)
  local state = record.state
  local shape = bit.band(record.shape, HAS_WAITERS + OF_APPLY)
  local parts = { "" }
  if state == IN_PROGRESS or state == BROKEN then
    parts[#parts + 1] = struct.pack(">c8I6I4I2", record.other_half, record.lease_end, record.lease_ms, record.run)
  end
  if state ~= COMPLETED and state ~= FAILED then
    parts[#parts + 1] = struct.pack(">I4", record.failures)
  end
  if record.born ~= record.fence then
    shape = shape + HAS_BORN
    parts[#parts + 1] = struct.pack(">I7", record.born)
  end
  if record.fingerprint then
    shape = shape + HAS_FINGERPRINT
    parts[#parts + 1] = record.fingerprint
  end
  parts[#parts + 1] = record.rest
  parts[1] = struct.pack(">Bc1BI4I7c8", LAYOUT, state, shape, record.attempt, record.fence, record.half)
  return table.concat(parts)
end

-- The record under a key; nil where there is none, or none of this layout.
local function read(record_key)
  local raw = redis.call("GET", record_key)
  return raw and parse(raw)
end

-- The record of a key that is there, for a caller with that fingerprint; or nil and what such a caller is answered.
local function read_for(raw, fingerprint)
  local record = parse(raw)
  if not record then
    return nil, { "unreadable" }
  end
  if record.fingerprint and record.fingerprint ~= fingerprint then
    return nil, { "mismatch" }
  end
  return record
end

-- Is the record in progress under this token and fence? Both: a late copy of a claim gets a new fence, and nothing of
-- the attempt that was given up may fit it.
local function is_held_by(record, token, fence)
  return record.state == IN_PROGRESS
    and record.half .. record.other_half == token
    and record.fence == tonumber(fence)
end

-- Is the record the work of this token and fence? Of one that is no longer in progress, it brought it to its state.
local function is_of(record, token, fence)
  return record.half == string.sub(token, 1, HALF) and record.fence == tonumber(fence)
end

-- Puts a changed record back, its TTL from now. PEXPIRE goes first: memory never refuses it, and after it never
-- refuses the SET either, so that finished work always lands.
local function put_back(record_key, record, ttl_ms)
  redis.call("PEXPIRE", record_key, ttl_ms)
  redis.call("SET", record_key, pack(record), "KEEPTTL")
end

-- Was the token given up, by its own attempt or by one that took over?
local function is_given_up(record, token)
  local half = string.sub(token, 1, HALF)
  if record.half == half then
    return true
  end
  for at = 1, #record.rest, HALF do
    if string.sub(record.rest, at, at + HALF - 1) == half then
      return true
    end
  end
  return false
end

-- The given-up tokens of a record's next attempt: that of the last one joins them, the oldest is forgotten.
local function given_up_by(record)
  return string.sub(record.half .. record.rest, 1, HALF * MOST_GIVEN_UP)
end

-- Fails a record for good, after as many failures.
local function exhaust(record_key, record, failures, retention_ms)
  record.state, record.failures, record.rest = EXHAUSTED, failures, ""
  redis.call("SET", record_key, pack(record), "PX", retention_ms)
  return { "exhausted", string.format("%.0f", failures), "now", string.format("%.0f", record.attempt) }
end

-- What a record that is settled for good answers to all who ask; nil where it is not.
local function final_answer(record)
  local state = record.state
  if state == COMPLETED then
    return { "completed", string.format("%.0f", record.attempt), record.rest }
  end
  if state == FAILED then
    return { "failed", string.format("%.0f", record.attempt), record.rest }
  end
  if state == EXHAUSTED then
    return { "exhausted", string.format("%.0f", record.failures), "before" }
  end
  if state == BROKEN then
    return { "broken" }
  end
  return nil
end

-- The first write of a commit: changes nothing that matters, is never refused by memory, and after it nothing is.
local function begin_writes(record_key)
  redis.call("PEXPIRE", record_key, math.max(redis.call("PTTL", record_key), SHORTEST_TTL_MS))
end
