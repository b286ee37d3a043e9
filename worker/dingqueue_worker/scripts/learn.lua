-- learn(job id, receipt, notes, verdict "delivered" | "dead" | "given up" | "", why, next look in ms) = ARGV[3..8]
-- What became of an accepted job. Without a verdict it is looked up again.
-- Returns  {state, events}
-- Cost     O(log n), n dead jobs.

local id, verdict, why = ARGV[3], ARGV[6], ARGV[7]
local job = base .. 'job:' .. id
local record = redis.call('HMGET', job, 'state', 'destination')
if record[1] ~= 'accepted' then
  redis.call('ZREM', base .. 'results', id)
  return {record[1] or 'gone', events}
end
redis.call('HSET', job, 'receipt', ARGV[4], 'notes', ARGV[5])
if verdict == '' then
  redis.call('ZADD', base .. 'results', int(now + tonumber(ARGV[8])), id)
  return {'accepted', events}
end
redis.call('ZREM', base .. 'results', id)
count('results:' .. record[2] .. ':' .. verdict)
redis.call('HSET', job, 'why', why)
if verdict == 'dead' then
  local pace = lane_pace(record[2])
  local keep_ms = pace and pace.keep_dead_ms or DAY_MS
  -- Replayed, it begins anew.
  redis.call('HSET', job, 'state', 'dead', 'cause', 'recipients', 'step', 0, 'notes', '{}', 'ended_ms', int(now))
  redis.call('ZADD', base .. 'dead', int(now), id)
  for _, key in ipairs({base .. 'dead', base .. 'body:' .. id, job}) do redis.call('PEXPIRE', key, int(keep_ms)) end
  for _, value in ipairs({'dead', id, why}) do events[#events + 1] = value end
else
  if verdict == 'delivered' then redis.call('HSET', job, 'state', 'delivered') end
  redis.call('DEL', base .. 'body:' .. id)
end
return {redis.call('HGET', job, 'state'), events}
