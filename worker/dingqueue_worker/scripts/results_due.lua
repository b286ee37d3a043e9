-- results_due(most, lease_ms) = ARGV[3..4]
-- Accepted jobs whose result is to be looked up now. Whoever gets them has them for the lease.
--
--   results   zset   job whose result is not known -> when to look, ms
--
-- Returns  {job id, destination, state, notes, receipt, ended_ms, looks, ...}, flat
-- Cost     O(most x log n).

local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'results', '-inf', int(now), 'LIMIT', 0, tonumber(ARGV[3]))) do
  local job = base .. 'job:' .. id
  local record = redis.call('HMGET', job, 'destination', 'state', 'notes', 'receipt', 'ended_ms')
  if record[2] ~= 'accepted' then                 -- taken back meanwhile, or forgotten
    redis.call('ZREM', base .. 'results', id)
  else
    redis.call('ZADD', base .. 'results', int(now + tonumber(ARGV[4])), id)
    local looks = redis.call('HINCRBY', job, 'looks', 1)
    for _, value in ipairs({id, record[1], record[3] or '{}', record[4] or '{}', record[5], looks}) do found[#found + 1] = value end
  end
end
return {int(now), found}
