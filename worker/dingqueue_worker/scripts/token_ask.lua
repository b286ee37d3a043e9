-- token_ask(app, config fingerprint, lease_ms, eager "0|1") = ARGV[3..6]
-- Is there a token, and who fetches the next one? One holder of the lease for the whole fleet; others go on with the
-- old token, or wait. `eager` (beat) fetches when it is time; who needs a token only when it is late or there is none.
--
--   token:<app>:<mark>   hash   {token, number, got_ms, refresh_ms, late_ms, usable_ms, lease, lease_ms, fails, failed_ms, again_ms,
--                              why, bad, drops}
--
-- Returns  {"token", token, number} | {"fetch", lease number, token or "", number} | {"wait", ms, why, "resting" | "refused" | "fetching"}
-- Cost     O(1).

local key, lease_ms, eager = base .. 'token:' .. ARGV[3] .. ':' .. ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1'
local held = redis.call('HMGET', key, 'token', 'number', 'got_ms', 'refresh_ms', 'late_ms', 'usable_ms', 'lease_ms', 'again_ms',
  'why', 'bad', 'fails', 'failed_ms')
local function at(i) return tonumber(held[i] or 0) end

local usable = held[1] and now < at(6)
-- A token from the future: the clock went back, and nobody knows how old it is. It is used, and replaced.
local due = now >= (eager and at(4) or at(5)) or now < at(3) - 60000
if usable and not due then return {'token', held[1], held[2]} end
-- So is a lease or a rest from the future: it would last as much longer.
local leased, resting = at(7) > now and at(7) <= now + lease_ms, at(8) > now and now >= at(12) - STEP_MS
if usable and (leased or resting) then return {'token', held[1], held[2]} end
if resting then return {'wait', int(at(8) - now), held[9] or '', held[10] == 'bad' and at(11) > 1 and 'refused' or 'resting'} end
if leased then return {'wait', int(at(7) - now), 'the app\'s token is being fetched', 'fetching'} end
local lease = redis.call('HINCRBY', key, 'lease', 1)
redis.call('HSET', key, 'lease_ms', int(now + lease_ms))
redis.call('PEXPIRE', key, 3 * DAY_MS)
return {'fetch', int(lease), usable and held[1] or '', usable and held[2] or '0'}
