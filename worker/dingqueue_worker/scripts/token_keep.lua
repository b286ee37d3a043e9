-- token_keep(app, config fingerprint, lease number, token, refresh_in_ms, late_in_ms, usable_in_ms) = ARGV[3..9]
-- Keeps a token that was fetched under a lease, unless a later lease brought a newer one.
-- Returns  {"kept" | "late", token, number}: the one to use; its token is "" where DingTalk has refused it already
-- Cost     O(1).

local key, number = base .. 'token:' .. ARGV[3] .. ':' .. ARGV[4], ARGV[5]
local held = redis.call('HMGET', key, 'token', 'number', 'lease')
if tonumber(held[2] or 0) >= tonumber(number) then return {'late', held[1] or '', held[2]} end
redis.call('HSET', key, 'token', ARGV[6], 'number', number, 'got_ms', int(now), 'refresh_ms', int(now + tonumber(ARGV[7])),
  'late_ms', int(now + tonumber(ARGV[8])), 'usable_ms', int(now + tonumber(ARGV[9])))
redis.call('HDEL', key, 'fails', 'again_ms', 'why', 'bad')
-- The lease may be another's by now: that one goes on, and its token will be the newer.
if held[3] == number then redis.call('HDEL', key, 'lease_ms') end
redis.call('PEXPIRE', key, 3 * DAY_MS)
-- Apart from the token, for those who may see only this.
redis.call('HSET', base .. 'token_ends', ARGV[3], int(now + tonumber(ARGV[9])))
redis.call('PEXPIRE', base .. 'token_ends', 3 * DAY_MS)
count('tokens:' .. ARGV[3] .. ':fetched')
return {'kept', ARGV[6], number}
