--[[
Marks of ids that were seen: 64-bit integers in plain sets, which Redis packs while they are small.

A shard of a set has a ring of buckets, each a key with an expiry of its own. A bucket takes the marks of one span of time,
`bucket_ms` long, and lives for as many spans as the ring has buckets but one: so its marks live for the window (all spans
but two) from the last moment of its own span, and it is gone a whole span before its place in the ring comes again. A mark
counts for as long as its bucket lives, and is never made a second time.
]]

-- The buckets of a shard: as many of the keys from that one on.
local function buckets_at(key, count)
  return { unpack(KEYS, key, key + count - 1) }
end

-- The bucket of now, and when it ends.
local function current_bucket(buckets, bucket_ms)
  local span = math.floor(now_ms() / bucket_ms)
  return buckets[span % #buckets + 1], (span + #buckets - 1) * bucket_ms
end

-- For each digest of the list, in its order, whether it is marked.
local function find_marked(buckets, digests)
  local marked = {}
  for _, bucket_key in ipairs(buckets) do
    for at, found in ipairs(redis.call("SMISMEMBER", bucket_key, unpack(digests))) do
      marked[at] = marked[at] or found == 1
    end
  end
  return marked
end

-- Marks digests that are in no bucket. Returns how many were new to it.
local function mark(buckets, bucket_ms, digests)
  local bucket_key, ends_at = current_bucket(buckets, bucket_ms)
  -- One that is there keeps its expiry: a clock that went back must not shorten the life of its marks.
  local has_expiry = redis.call("PTTL", bucket_key) >= 0
  local added = redis.call("SADD", bucket_key, unpack(digests))
  if not has_expiry then
    redis.call("PEXPIREAT", bucket_key, string.format("%.0f", ends_at))
  end
  return added
end

-- What a mark among effects says, its arguments being from `first` on: buckets, bucket_ms, digest.
local function mark_at(key, first)
  return buckets_at(key, tonumber(ARGV[first])), ARGV[first + 1], { ARGV[first + 2] }
end

-- Why an id could not be marked; nil where it can be, or is.
local function follow_mark(list, effect)
  local buckets, _, digests = mark_at(list.key + effect.number, effect.first)
  local ran, marked = pcall(find_marked, buckets, digests)
  if ran then
    effect.is_marked = marked[1]
    return nil
  end
  if error_code(marked) ~= "WRONGTYPE" then
    error(marked)
  end
  return "wrong_type"
end

-- Marks the id of an effect that was followed: 1 where it was not marked before, else 0.
local function make_mark(list, effect)
  if effect.is_marked then
    return 0
  end
  return mark(mark_at(list.key + effect.number, effect.first))
end

local function is_marked(key, first)
  local buckets, _, digests = mark_at(key, first)
  return find_marked(buckets, digests)[1]
end

-- Most records have no mark: what looks for one is made only where there is one to look for.
local function make_looking()
  return is_marked
end

-- Does an entry's record have its mark in a set, and is it there? It is told as the first of the effects.
local function has_mark(effects)
  local first = effects and effects.first
  if not first or ARGV[first] ~= "MARK" then
    return false
  end
  return make_looking()(effects.key + tonumber(ARGV[first + 2]), first + 4)
end
