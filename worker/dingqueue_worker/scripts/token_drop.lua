-- token_drop(app, config fingerprint, number) = ARGV[3..5]
-- DingTalk refused this very token: it is not used again. A newer one is left alone. Tokens that are refused as soon as
-- they come are not fetched in a loop.
-- Returns  {"dropped" | "newer"}
-- Cost     O(1).

local key = base .. 'token:' .. ARGV[3] .. ':' .. ARGV[4]
local held = redis.call('HMGET', key, 'number', 'got_ms', 'usable_ms')
if held[1] ~= ARGV[5] then return {'newer'} end
if tonumber(held[3]) > now then
  local young = now - tonumber(held[2]) < 60000
  local drops = young and redis.call('HINCRBY', key, 'drops', 1) or 0
  if not young then redis.call('HDEL', key, 'drops') end
  if drops > 1 then
    redis.call('HSET', key, 'failed_ms', int(now), 'again_ms', int(now + math.min(1000 * 2 ^ math.min(drops, 10), 60000)),
      'why', 'DingTalk refuses the tokens that it gives')
  end
end
redis.call('HSET', key, 'usable_ms', 0)
redis.call('HDEL', key, 'token')
redis.call('HSET', base .. 'token_ends', ARGV[3], 0)
redis.call('PEXPIRE', base .. 'token_ends', 3 * DAY_MS)
count('tokens:' .. ARGV[3] .. ':refused')
return {'dropped'}
