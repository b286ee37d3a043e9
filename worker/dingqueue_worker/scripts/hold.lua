-- hold(destination, for_ms or "0" to let it go on, why) = ARGV[3..5]
-- Pauses a lane, or ends its pause: what is out comes to its end, nothing more is called.
-- Returns  {"paused" | "resumed" | "unknown destination", calls}

local destination, for_ms = ARGV[3], tonumber(ARGV[4])
local key = base .. 'hold:' .. destination
if not lane_pace(destination) and redis.call('EXISTS', base .. 'lane:' .. destination) == 0 then return {'unknown destination', calls} end
if for_ms > 0 then
  local rests = tonumber(redis.call('HGET', key, 'rests') or 0)
  redis.call('HSET', key, 'until', int(now + for_ms), 'why', ARGV[5])
  redis.call('PEXPIRE', key, int(math.max(for_ms, rests - now)))
  return {'paused', calls}
end
redis.call('HDEL', key, 'until', 'why')                     -- a back-off goes on
look(destination, MOST_CALLS)
take_turns()
return {'resumed', calls}
