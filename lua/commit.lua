--[[
commit: apply an attempt's writes and complete its record, or neither; only where the attempt still holds its key.

List     one entry a key; entries are independent
KEYS[i]  record, then the keys of its effects
ARGV     per list: run (integer, from 0: how many runs of the handler met a conflict before), retention_ms (integer > 0),
         channel (for hints, or empty)
         per entry: token (16 bytes), fence (integer), born (integer), result (bytes), then the effects (see lib/effects.lua)

Returns  per entry: "done" | "conflict", number of the effect | "rejected", number of the effect, reason
         | "broken" | "gone" | "lost"
Writes   what memory refuses is written again after PEXPIRE, which it never refuses: finished work lands
Resend   safe: a second copy finds its own token on the completed record and answers done; a late copy of a run that met
         a conflict meets it again, whatever the data are by then
]]

local run, retention_ms, channel = per_list(3)

local function commit(record_key, effects, token, fence, born, result)
  local raw, state, shape, rest_at = read(record_key)
  if not state then
    return { "gone" }
  end
  if state == COMPLETED and is_of(raw, token, fence) then
    return { "done" }
  end
  if state == BROKEN then
    return { "broken" }
  end
  if born_of(raw, shape, rest_at) ~= tonumber(born) then
    return { "gone" }
  end
  if state ~= IN_PROGRESS or not is_held_by(raw, token, fence) then
    return { "lost" }
  end

  if effects then
    local find_conflict, find_rejected, write_effects, list = effects_of(effects)
    local conflict, condition = find_conflict(list)
    local known_run = run_of(raw)
    -- A copy of a run that met a conflict: which one it was is not known, so it is the one of now, or the first.
    if known_run ~= tonumber(run) then
      return { "conflict", conflict or condition }
    end
    if conflict then
      begin_writes(record_key)
      redis.call("SETRANGE", record_key, RUN_OFFSET, struct.pack(">I2", known_run + 1))
      return { "conflict", conflict }
    end
    local rejected, reason = find_rejected(list)
    if rejected then
      return { "rejected", rejected, reason }
    end
    local failed, code, written = write_effects(list)
    if failed and not written then
      -- A server that refuses every write, such as a replica, refuses this one too, and then that is the answer.
      begin_writes(record_key)
      return { "rejected", failed, code }
    end
    if failed then
      redis.call("PERSIST", record_key)
      redis.call("SETRANGE", record_key, STATE_OFFSET, string.char(BROKEN))
      hint(record_key, shape, channel, "broken")
      return { "broken" }
    end
  end

  put_back(record_key, finished(raw, rest_at, COMPLETED, result), retention_ms)
  hint(record_key, shape, channel, "completed")
  return { "done" }
end

return each_entry_with_effects(commit, 4)
