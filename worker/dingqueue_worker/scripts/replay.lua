-- replay(job id, expires_in ms, who and why) = ARGV[3..5]
-- A dead job waits again at its old place, with its old id and its attempts forgiven.
-- Returns  {"waiting", calls} | {"not dead", state or "gone"}
-- Cost     O(log n), n jobs waiting in the lane.

local id = ARGV[3]
local job = base .. 'job:' .. id
local record = redis.call('HMGET', job, 'state', 'destination', 'score', 'step')
if record[1] ~= 'dead' then return {'not dead', record[1] or 'gone'} end
local expires = int(now + tonumber(ARGV[4]))
redis.call('ZREM', base .. 'dead', id)
redis.call('PERSIST', job)
redis.call('PERSIST', base .. 'body:' .. id)
redis.call('HSET', job, 'fails', 0, 'deaths', 0, 'calls', 0, 'expires_ms', expires, 'replayed_ms', now_ms, 'replayed_by', ARGV[5])
redis.call('HDEL', job, 'ended_ms')
redis.call('HINCRBY', job, 'replays', 1)
redis.call('ZADD', base .. 'expiry', expires, id)
count('replayed')
-- What has begun goes before all that has not, in its own order: two of them must not mix their parts.
wait_in_lane(id, record[2], tonumber(record[4] or 0) > 0 and string.format('%.17g', record[3] / 1e16) or record[3], {})
look(record[2], MOST_CALLS)
take_turns()
return {'waiting', calls}
