--[[
seen: mark the ids of one shard, or look for their marks.

List     one entry a shard; entries are independent
KEYS[i]  bucket, the first of the shard's, then its other buckets
ARGV     per list: task ("add" | "has"), bucket_ms (integer > 0)
         per entry: the digests (64-bit integers, no two alike)

Returns  per entry: "told", a letter a digest ("1": it was marked before, "0": it was not)
Writes   SADD first: memory refuses new marks
Resend   safe for the marks: a second copy makes none; but it finds those of the first, and tells them as marked before
]]

local task, bucket_ms = per_list(2)

local function seen(bucket_key, digests)
  local buckets = buckets_at(digests.key, 1 + #digests.plan)
  local asked = { unpack(ARGV, digests.first, digests.last) }
  local marked = find_marked(buckets, asked)
  local letters, fresh = {}, {}
  for at, digest in ipairs(asked) do
    letters[at] = marked[at] and "1" or "0"
    if not marked[at] then
      fresh[#fresh + 1] = digest
    end
  end
  if task == "add" and #fresh > 0 then
    mark(buckets, bucket_ms, fresh)
  end
  return { "told", table.concat(letters) }
end

return each_entry_with_effects(seen, 0)
