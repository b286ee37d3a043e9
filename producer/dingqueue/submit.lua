-- submit(job id, kind, destination, body, urgent "0|1", at ms or "0", expires_in ms or "", on_unknown,
--   need: what its first step takes, one of the pace's "first", route that cannot carry it, ...) = ARGV[3..11], ARGV[12..]
-- Stores a job in its lane, once, and calls what may go.
-- Returns  {"accepted", calls} | {"repeat", state} | {"full", waiting} | {"unknown destination"} | {"barred", route}
-- Cost     O(log n), n jobs waiting in the lane.

local id, kind, destination, body = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local urgent, at, expires_in = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local job = base .. 'job:' .. id

local state = redis.call('HGET', job, 'state')
if state then return {'repeat', state} end
local pace = lane_pace(destination)
-- Before any worker has ever started there is no pace: jobs are accepted and wait.
if not pace and redis.call('EXISTS', base .. 'pace') == 1 then return {'unknown destination'} end
-- By the way that it would take no attempt could deliver it: better said now than by a dead letter.
if pace and #ARGV > 11 then
  local _, route = way(pace, ARGV[11])
  for i = 12, #ARGV do
    if ARGV[i] == route then return {'barred', route} end
  end
end
local waiting = redis.call('ZCARD', base .. 'lane:' .. destination)
if pace and waiting >= pace.max_waiting then return {'full', waiting} end

local number = redis.call('HINCRBY', base .. 'counts', 'submitted', 1)
local score = int(urgent == '1' and number or NORMAL + number)
local expires = int(math.max(at, now) + (expires_in or pace and pace.expires_ms or DAY_MS))
redis.call('SET', base .. 'body:' .. id, body)
local record = {'kind', kind, 'destination', destination, 'state', 'waiting', 'score', score, 'submitted_ms', int(now),
  'expires_ms', expires, 'need', ARGV[11]}
-- What most jobs have is left out: a million records that wait are as many bytes smaller.
local function unusual(name, value, usual)
  if value ~= usual then
    record[#record + 1] = name
    record[#record + 1] = value
  end
end
unusual('urgent', urgent, '0')
unusual('at_ms', int(at), '0')
unusual('on_unknown', ARGV[10], 'resend')
redis.call('HSET', job, unpack(record))
redis.call('ZADD', base .. 'expiry', expires, id)
count('accepted:' .. kind .. ':' .. destination)
if at > now then
  redis.call('ZADD', base .. 'later', int(at), id)
else
  redis.call('ZADD', base .. 'lane:' .. destination, score, id)
  -- A lane whose head could not go keeps its appointment; only a new head changes it, or one with a route of its own.
  if waiting == 0 or urgent == '1' or pace and pace.routes then
    look(destination, MOST_CALLS)
    take_turns()
  end
end
return {'accepted', calls}
