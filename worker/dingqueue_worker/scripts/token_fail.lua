-- token_fail(app, config fingerprint, lease number, why, "bad" | "", rest_ms or "", jitter from 0 to 1) = ARGV[3..9]
-- No token came. The next question waits: rest_ms; a second after the first proof that the credentials are wrong and
-- ten minutes after every other; else a back-off from one second to a minute.
-- Returns  {"failed", ms until the next question, failures in a row} | {"late"}
-- Cost     O(1).

local key, number = base .. 'token:' .. ARGV[3] .. ':' .. ARGV[4], ARGV[5]
if redis.call('HGET', key, 'lease') ~= number then return {'late'} end
local fails = redis.call('HINCRBY', key, 'fails', 1)
count('tokens:' .. ARGV[3] .. ':failed')
local wait = tonumber(ARGV[8])
if not wait and ARGV[7] == 'bad' then wait = fails == 1 and 1000 or 600000 end
if not wait then wait = math.min(1000 * 2 ^ math.min(fails - 1, 10), 60000) * (0.5 + 0.5 * tonumber(ARGV[9])) end
redis.call('HSET', key, 'again_ms', int(now + wait), 'failed_ms', int(now), 'why', ARGV[6], 'bad', ARGV[7])
redis.call('HDEL', key, 'lease_ms')
redis.call('PEXPIRE', key, 3 * DAY_MS)
return {'failed', int(wait), fails}
