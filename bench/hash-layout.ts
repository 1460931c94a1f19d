/** The same protocol on a Redis hash, one field a value: what the packed string is measured against. */

const WALK = `
local function each_entry(entry, width)
  local replies = {}
  for index = 1, #KEYS do
    local first = (index - 1) * width + 1
    local ran, reply = pcall(entry, KEYS[index], unpack(ARGV, first, first + width - 1))
    replies[index] = ran and reply or { "refused" }
  end
  return replies
end
`;

/** Claim: the same checks as lua/claim.lua, on HMGET. A duplicate is a claim of a completed record. */
export const HASH_CLAIM = `${WALK}
local function claim(key, token, fingerprint, lease_ms, ttl_ms, max_attempts)
  local state, fp, attempt, fence, owner, lease_end, failures, born, given_up, result = unpack(redis.call("HMGET", key,
    "state", "fp", "attempt", "fence", "token", "lease", "failures", "born", "given_up", "result"))
  if state and fp ~= "" and fp ~= fingerprint then return { "mismatch" } end
  if state == "C" then return { "completed", attempt, result } end
  local time = redis.call("TIME")
  local now_us = time[1] * 1000000 + time[2]
  local now_ms = math.floor(now_us / 1000)
  local new_fence, new_attempt, new_failures, new_given_up = now_us, 1, 0, ""
  if state then
    if state == "R" and owner == token then return { "owned", attempt, fence, born } end
    if state == "R" and tonumber(lease_end) > now_ms then return { "busy" } end
    if string.find(given_up, string.sub(token, 1, 8), 1, true) then return { "stale" } end
    new_failures = failures + (state == "R" and 1 or 0)
    if tonumber(max_attempts) > 0 and new_failures >= tonumber(max_attempts) then return { "exhausted" } end
    new_fence, new_attempt = math.max(fence + 1, now_us), attempt + 1
    new_given_up = string.sub(string.sub(owner, 1, 8) .. given_up, 1, 64)
  end
  local fence_text = string.format("%.0f", new_fence)
  redis.call("HSET", key, "v", 1, "state", "R", "fp", fingerprint, "attempt", new_attempt, "fence", fence_text,
    "token", token, "lease", string.format("%.0f", now_ms + lease_ms), "failures", new_failures,
    "born", born or fence_text, "given_up", new_given_up)
  redis.call("PEXPIRE", key, ttl_ms)
  return { "owned", tostring(new_attempt), fence_text, born or fence_text }
end
return each_entry(claim, 5)
`;

/** Commit: the same checks as lua/commit.lua; sheds what a completed record no longer needs. */
export const HASH_COMMIT = `${WALK}
local function commit(key, token, fence, born, retention_ms, result)
  local state, owner, own_fence, own_born = unpack(redis.call("HMGET", key, "state", "token", "fence", "born"))
  if not state then return { "gone" } end
  if state == "C" and owner == string.sub(token, 1, 8) and own_fence == fence then return { "done" } end
  if own_born ~= born then return { "gone" } end
  if state ~= "R" or owner ~= token or own_fence ~= fence then return { "lost" } end
  redis.call("PEXPIRE", key, retention_ms)
  redis.call("HSET", key, "state", "C", "token", string.sub(token, 1, 8), "result", result)
  redis.call("HDEL", key, "lease", "failures", "given_up")
  return { "done" }
end
return each_entry(commit, 5)
`;
