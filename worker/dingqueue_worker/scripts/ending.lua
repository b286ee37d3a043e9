-- What `settle` and `release` share: how an attempt that did not deliver goes on. Put after call.lua, before them.

-- Waits before the next attempt. A job in mid-steps keeps its lane to itself meanwhile, so that its parts arrive together;
-- not where an app speaks: there no order is promised. `changes`, flat, is what else changes in its record.
local function wait_for_retry(id, destination, score, step, wait_ms, why, changes)
  local pace = lane_pace(destination)
  if step > 0 and not (wait_ms > 0 and pace and pace.routes) then
    wait_in_lane(id, destination, FRONT, changes)
    if wait_ms > 0 then
      local key = base .. 'hold:' .. destination
      redis.call('HSET', key, 'rests', int(now + wait_ms), 'rests_why', why)
      keep(key, wait_ms + STEP_MS)
    end
  elseif wait_ms > 0 then
    redis.call('HSET', base .. 'job:' .. id, 'state', 'waiting', unpack(changes))
    redis.call('ZADD', base .. 'later', int(now + wait_ms), id)
  else
    wait_in_lane(id, destination, score, changes)
  end
end

-- Spends an attempt. `most` attempts make it dead; an unknown end is settled by the job's own rule.
local function spend(id, record, verdict, why, cause, wait_ms, most, changes)
  local job = base .. 'job:' .. id
  redis.call('HINCRBY', job, 'attempts', 1)
  local fails = redis.call('HINCRBY', job, 'fails', 1)
  redis.call('HSET', job, 'last', verdict, 'why', why, 'cause', cause, unpack(changes))
  if verdict == 'unknown' then
    redis.call('HINCRBY', job, 'unknowns', 1)
    if record.on_unknown == 'hold' then return conclude(id, record, 'dead', 'unknown', why, {}, {}) end
  end
  if fails >= most then return conclude(id, record, 'dead', cause, why, {}, {}) end
  wait_for_retry(id, record.destination, record.score, tonumber(record.step or 0), wait_ms, why, {})
end
