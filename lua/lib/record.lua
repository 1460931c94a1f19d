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

All numbers are big-endian and unsigned. A record is read in place, each question by its offset, and never taken apart into
a table: that costs more than the rest of a script (docs/adr/0008).
]]

local LAYOUT = 1
-- Bytes: R, C, F, X, L, B.
local IN_PROGRESS, COMPLETED, FAILED, EXHAUSTED, RELEASED, BROKEN = 82, 67, 70, 88, 76, 66

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

-- Arithmetic, not `bit`: a call costs more than the question.
local function has(shape, flag)
  return shape % (2 * flag) >= flag
end

-- How the bytes stand: state, shape, and where their rest begins, which is the given-up tokens, the result or the
-- failure. Nil where they are no whole record of this layout.
local function head_of(raw)
  local layout, state, shape = string.byte(raw, 1, 3)
  if layout ~= LAYOUT or not shape then
    return nil
  end
  local rest_at = 23
  if state == IN_PROGRESS or state == BROKEN then
    rest_at = 47
  elseif state == RELEASED or state == EXHAUSTED then
    rest_at = 27
  elseif state ~= COMPLETED and state ~= FAILED then
    return nil
  end
  if has(shape, HAS_BORN) then
    rest_at = rest_at + 7
  end
  if has(shape, HAS_FINGERPRINT) then
    rest_at = rest_at + 16
  end
  if #raw < rest_at - 1 then
    return nil
  end
  return state, shape, rest_at
end

-- A reply, or nil where the key is of another type.
local function unless_wrong_type(reply)
  if type(reply) == "table" and reply.err then
    if string.find(reply.err, "WRONGTYPE", 1, true) then
      return nil
    end
    error(reply)
  end
  return reply
end

-- The bytes under a key, and how they stand; nil where there is no key. What is no string is no record either.
local function read(record_key)
  local raw = unless_wrong_type(redis.pcall("GET", record_key))
  if raw then
    return raw, head_of(raw)
  end
  if raw == nil then
    return ""
  end
  return nil
end

local function attempt_of(raw)
  local attempt = struct.unpack(">I4", raw, 4)
  return attempt
end

local function fence_of(raw)
  local fence = struct.unpack(">I7", raw, 8)
  return fence
end

-- The fence of the record's first attempt.
local function born_of(raw, shape, rest_at)
  if not has(shape, HAS_BORN) then
    return fence_of(raw)
  end
  local born = struct.unpack(">I7", raw, has(shape, HAS_FINGERPRINT) and rest_at - 23 or rest_at - 7)
  return born
end

-- Empty where there is none.
local function fingerprint_of(raw, shape, rest_at)
  return has(shape, HAS_FINGERPRINT) and string.sub(raw, rest_at - 16, rest_at - 1) or ""
end

-- Was the record made for another fingerprint? One without is not compared.
local function is_mismatch(raw, shape, rest_at, fingerprint)
  return has(shape, HAS_FINGERPRINT) and fingerprint_of(raw, shape, rest_at) ~= fingerprint
end

-- Of a record that is in progress, released or exhausted.
local function failures_of(raw, state)
  local failures = struct.unpack(">I4", raw, state == IN_PROGRESS and 43 or 23)
  return failures
end

-- What is left of a lease, in ms, and when it ends. One that ends further away than it is long was written before the
-- clock went back.
local function lease_left(raw)
  local lease_end, lease_ms = struct.unpack(">I6I4", raw, 31)
  return math.max(0, math.min(lease_end - now_ms(), lease_ms)), lease_end
end

-- Is a record in progress held under this token and fence? Both: a late copy of a claim gets a new fence, and nothing of
-- the attempt that was given up may fit it.
local function is_held_by(raw, token, fence)
  return string.sub(raw, 15, 30) == token and fence_of(raw) == tonumber(fence)
end

-- Is the record the work of this token and fence? Of one that is no longer in progress, it brought it to its state.
local function is_of(raw, token, fence)
  return string.sub(raw, 15, 22) == string.sub(token, 1, HALF) and fence_of(raw) == tonumber(fence)
end

-- What a record that is settled for good answers to all who ask; nil where it is not.
local function final_answer(raw, state, rest_at)
  if state == COMPLETED then
    return { "completed", attempt_of(raw), string.sub(raw, rest_at) }
  end
  if state == FAILED then
    return { "failed", attempt_of(raw), string.sub(raw, rest_at) }
  end
  if state == EXHAUSTED then
    return { "exhausted", failures_of(raw, state), "before" }
  end
  if state == BROKEN then
    return { "broken" }
  end
  return nil
end

-- What follows a record's own bytes, and the shape that says so.
local function tail_of(shape, fence, born, fingerprint, rest)
  shape = shape - shape % HAS_WAITERS
  local tail = rest
  if fingerprint ~= "" then
    shape, tail = shape + HAS_FINGERPRINT, fingerprint .. tail
  end
  if born ~= fence then
    shape, tail = shape + HAS_BORN, struct.pack(">I7", born) .. tail
  end
  return shape, tail
end

-- The bytes of a record. `own` is what its state has of its own, `rest` the given-up tokens, the result or the failure.
local function pack(state, shape, attempt, fence, half, own, born, fingerprint, rest)
  local kept, tail = tail_of(shape, fence, born, fingerprint, rest)
  return struct.pack(">BBBI4I7c8", LAYOUT, state, kept, attempt, fence, half) .. own .. tail
end

-- The bytes of a record in progress whose lease begins now.
local function pack_running(shape, attempt, fence, token, lease_ms, failures, born, fingerprint, given_up)
  local kept, tail = tail_of(shape, fence, born, fingerprint, given_up)
  local format = ">BBBI4I7c16I6I4I2I4"
  local lease_end = now_ms() + lease_ms
  return struct.pack(format, LAYOUT, IN_PROGRESS, kept, attempt, fence, token, lease_end, lease_ms, 0, failures) .. tail
end

-- The bytes of a record in progress, once its attempt has ended for good: completed, or failed.
local function finished(raw, rest_at, state, rest)
  return string.char(LAYOUT, state) .. string.sub(raw, 3, 22) .. string.sub(raw, 47, rest_at - 1) .. rest
end

-- Puts a record in the place of one in progress. Finished work always lands: where memory refuses the SET, PEXPIRE goes
-- first, which it never refuses, and after the first write of a script it refuses nothing.
local function put_back(record_key, bytes, ttl_ms)
  if redis.pcall("SET", record_key, bytes, "PX", ttl_ms).err then
    redis.call("PEXPIRE", record_key, ttl_ms)
    redis.call("SET", record_key, bytes, "PX", ttl_ms)
  end
end

-- Was the token given up, by its own attempt or by one that took over?
local function is_given_up(raw, rest_at, token)
  local half = string.sub(token, 1, HALF)
  if string.sub(raw, 15, 22) == half then
    return true
  end
  for at = rest_at, #raw, HALF do
    if string.sub(raw, at, at + HALF - 1) == half then
      return true
    end
  end
  return false
end

-- The given-up tokens of a record's next attempt: that of the last one joins them, the oldest is forgotten.
local function given_up_by(raw, rest_at)
  return string.sub(string.sub(raw, 15, 22) .. string.sub(raw, rest_at), 1, HALF * MOST_GIVEN_UP)
end

-- Fails a record for good, after as many failures.
local function exhaust(record_key, raw, shape, rest_at, failures, retention_ms)
  local attempt, fence, half = struct.unpack(">I4I7c8", raw, 4)
  local born, fingerprint = born_of(raw, shape, rest_at), fingerprint_of(raw, shape, rest_at)
  local bytes = pack(EXHAUSTED, shape, attempt, fence, half, struct.pack(">I4", failures), born, fingerprint, "")
  redis.call("SET", record_key, bytes, "PX", retention_ms)
  return { "exhausted", failures, "now", attempt }
end

-- How often a commit of the attempt found a condition that did not hold.
local function run_of(raw)
  local run = struct.unpack(">I2", raw, RUN_OFFSET + 1)
  return run
end

-- A first write that changes nothing that matters, is never refused by memory, and after which nothing is.
local function begin_writes(record_key)
  redis.call("PEXPIRE", record_key, math.max(redis.call("PTTL", record_key), SHORTEST_TTL_MS))
end
