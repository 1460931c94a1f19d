--[[
bury: move an entry of a stream to the stream of dead letters and acknowledge it, in one step.

List     one entry a key; entries are independent
KEYS[i]  stream, then the stream of dead letters
ARGV     per entry: group, consumer, id (of the entry), deliveries (how often it was handed out), then the words (names and
         values, put behind the entry's own)

Returns  per entry: "buried", id of the dead letter | "gone" (not pending, or handed out again since) | "trimmed" (not in the stream)
Writes   XACK of no entry, then XADD, then XACK: what may not be acknowledged is not buried; memory refuses neither
Resend   safe: a second copy finds the entry acknowledged, and answers gone
]]

local function bury(stream_key, words, group, consumer, id, deliveries)
  if not is_handed_to(stream_key, group, consumer, id, deliveries) then
    return { "gone" }
  end
  local entry = entry_of(stream_key, id)
  if not entry then
    redis.call("XACK", stream_key, group, id)
    return { "trimmed" }
  end
  local fields, dead_letter_key = entry[2], KEYS[words.key + 1]
  for at = words.first, words.last do
    fields[#fields + 1] = ARGV[at]
  end
  -- A user who may not acknowledge is refused here, and nothing is written.
  redis.call("XACK", stream_key, group, "0-0")
  local letter = redis.call("XADD", dead_letter_key, "*", unpack(fields))
  redis.call("XACK", stream_key, group, id)
  return { "buried", letter }
end

return each_entry_with_effects(bury, 4)
