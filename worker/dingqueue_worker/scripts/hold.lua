-- hold(destination, for_ms or "0" to let it go on, why) = ARGV[3..5]
-- Pauses a lane, or ends its pause: what is out comes to its end, nothing more is called.
-- Returns  {"paused" | "resumed" | "unknown destination", calls}

local destination, for_ms = ARGV[3], tonumber(ARGV[4])
local key = base .. 'hold:' .. destination
if not lane_pace(destination) and redis.call('EXISTS', base .. 'lane:' .. destination) == 0 then return {'unknown destination', calls} end
if for_ms > 0 then
  redis.call('HSET', key, 'until', int(now + for_ms), 'why', ARGV[5])
  keep(key, for_ms + STEP_MS)
else
  redis.call('HDEL', key, 'until', 'why')                   -- a back-off goes on
end
look(destination, MOST_CALLS)                               -- a pause, too, may be shorter than the one before
take_turns()
return {for_ms > 0 and 'paused' or 'resumed', calls}
