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

-- Marks digests that are in no bucket, none of them twice.
local function mark(buckets, bucket_ms, digests)
  local bucket_key, ends_at = current_bucket(buckets, bucket_ms)
  -- One that is there keeps its expiry: a clock that went back must not shorten the life of its marks.
  local has_expiry = redis.call("PTTL", bucket_key) >= 0
  redis.call("SADD", bucket_key, unpack(digests))
  if not has_expiry then
    redis.call("PEXPIREAT", bucket_key, string.format("%.0f", ends_at))
  end
end
