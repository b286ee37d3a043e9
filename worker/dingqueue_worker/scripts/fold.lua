-- fold(destination, digest's id, body, on_unknown, job id, job id, ...) = ARGV[3..6], ARGV[7..]
-- Puts one digest in the place of waiting jobs: all of them, or none when one of them does not wait any more.
-- Without jobs there was nothing to fold: the lane's first job goes as it is.
-- Returns  {"folded" | "changed" | "single", calls}
-- Cost     O(m log n), m jobs folded, n jobs waiting in the lane.

local destination, digest = ARGV[3], ARGV[4]
local lane = base .. 'lane:' .. destination
local outcome = 'single'
if #ARGV < 7 then
  redis.call('SET', base .. 'single:' .. destination, '1', 'PX', FOLD_LEASE_MS)
else
  local first
  for i = 7, #ARGV do
    local score = redis.call('ZSCORE', lane, ARGV[i])
    if not score then return {'changed', calls} end
    if not first or tonumber(score) < tonumber(first) then first = score end
  end
  if redis.call('EXISTS', base .. 'job:' .. digest) == 1 then return {'changed', calls} end
  local oldest = now
  for i = 7, #ARGV do
    oldest = math.min(oldest, tonumber(redis.call('HGET', base .. 'job:' .. ARGV[i], 'submitted_ms')))
    finish(ARGV[i], 'merged', 'merged', 'merged into ' .. digest)
  end
  local pace = lane_pace(destination)
  local expires = int(now + (pace and pace.expires_ms or DAY_MS))
  redis.call('SET', base .. 'body:' .. digest, ARGV[5])
  redis.call('HSET', base .. 'job:' .. digest, 'kind', 'send', 'destination', destination, 'state', 'waiting', 'score', first,
    'urgent', '0', 'submitted_ms', int(oldest), 'at_ms', '0', 'expires_ms', expires, 'on_unknown', ARGV[6], 'merges', #ARGV - 6)
  redis.call('ZADD', base .. 'expiry', expires, digest)
  redis.call('ZADD', lane, first, digest)
  count('accepted:send:' .. destination)
  outcome = 'folded'
end
-- The rest that collected them is over.
redis.call('DEL', base .. 'rest:' .. destination)
look(destination, 1)
take_turns()
return {outcome, calls}
