-- status(job id) = ARGV[3]
-- Returns  {record as flat pairs, place in the lane from 0 or "", jobs out, lane's hold until or "", now}
-- Cost     O(log n), n jobs waiting in the lane. Changes nothing.

local record = redis.call('HGETALL', base .. 'job:' .. ARGV[3])
if #record == 0 then return {} end
local destination = redis.call('HGET', base .. 'job:' .. ARGV[3], 'destination')
local place = redis.call('ZRANK', base .. 'lane:' .. destination, ARGV[3])
local pace = lane_pace(destination)
local out = {}
local all = redis.call('HMGET', base .. 'sender:*:closed', 'until', 'cause', 'why')
if not (all[1] and tonumber(all[1]) > now) then all = nil end
local needs = redis.call('HMGET', base .. 'job:' .. ARGV[3], 'need', 'route')
for _, sender in ipairs(pace and way(pace, needs[1], needs[2]) or {}) do
  local sp = sender_pace(sender)
  local window = sp and sp.windows[1]
  if window then
    local key = window_key(sender, window)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now))
    local ends = {}
    local permits = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 2, #permits, 2 do ends[#ends + 1] = permits[i] end
    local name, closed = sender, {}
    for _, of in ipairs(closings(sender)) do
      local one = redis.call('HMGET', of, 'until', 'cause', 'why')
      if one[1] and tonumber(one[1]) > tonumber(closed[1] or 0) then closed = one end
    end
    if all then name, closed = '*', all end
    out[#out + 1] = {name, int(window[1]), int(window[2]), ends, int(closed_until(sender) or 0), closed[2] or '', closed[3] or ''}
  end
end
local held, held_why = held_until(destination)
local later = redis.call('ZSCORE', base .. 'later', ARGV[3])
return {record, place and int(place) or '', later or '', held and int(held) or '', held_why or '', int(now), out}
