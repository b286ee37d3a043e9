-- status(job id) = ARGV[3]
-- Returns  {record as flat pairs, place in the lane from 0 or "", not before or "", lane rests until or "", why, collects
--   until or "", now, {sender, opens at or 0, cause, why, other lanes' jobs before it, {{limit, window, {permit's end, ..}}, ..}} ..}
-- Cost     O(log n + m), n jobs waiting in the lane, m permits that count.

local MOST_TURNS = 200

local record = redis.call('HGETALL', base .. 'job:' .. ARGV[3])
if #record == 0 then return {} end
local destination = redis.call('HGET', base .. 'job:' .. ARGV[3], 'destination')
local place = redis.call('ZRANK', base .. 'lane:' .. destination, ARGV[3])
local pace = lane_pace(destination)
local out = {}
local all = redis.call('HMGET', base .. 'sender:*:closed', 'until', 'cause', 'why')
if not (all[1] and tonumber(all[1]) > now) then all = nil end
local needs = redis.call('HMGET', base .. 'job:' .. ARGV[3], 'need', 'route', 'urgent')
local urgent = needs[3] == '1'

-- Jobs of other lanes that go before this one, as turns are taken at a shared sender.
local function others(sender)
  local turns = base .. 'turns:' .. sender
  local mine = redis.call('ZRANK', turns, destination)
  local found = 0
  for rank, lane in ipairs(redis.call('ZRANGE', turns, 0, MOST_TURNS - 1)) do
    if lane ~= destination then
      found = found + math.min(redis.call('ZCARD', base .. 'lane:' .. lane), (place or 0) + (mine and rank > mine and 0 or 1))
    end
  end
  return found
end

for _, sender in ipairs(pace and way(pace, needs[1], needs[2]) or {}) do
  local sp = sender_pace(sender)
  if sp and #sp.windows > 0 then
    local windows = {}
    for _, window in ipairs(sp.windows) do
      local ends = {}
      local permits = redis.call('ZRANGEBYSCORE', window_key(sender, window), '(' .. int(now), '+inf', 'WITHSCORES')
      for i = 2, #permits, 2 do ends[#ends + 1] = permits[i] end
      windows[#windows + 1] = {int(most_of(window, sp, urgent)), int(window[2]), ends}
    end
    local name, closed = sender, {}
    for _, of in ipairs(closings(sender)) do
      local one = redis.call('HMGET', of.key, 'until', 'cause', 'why')
      if one[1] and tonumber(one[1]) > tonumber(closed[1] or 0) then closed = one end
    end
    if all then name, closed = '*', all end
    local opens, spent = closed_until(sender) or 0, spent_until(sender, sp, urgent)
    if spent and spent > opens then opens, closed = spent, {'', 'quota', 'the month\'s quota is used up'} end
    out[#out + 1] = {name, int(opens), closed[2] or '', closed[3] or '', sp.shared and not urgent and others(sender) or 0, windows}
  end
end
-- A lane that collects sends all that waits as one.
local collects = pace and pace.digest_ms and not urgent and (redis.call('GET', base .. 'rest:' .. destination) or '0') or ''
local held, held_why = held_until(destination)
local later = redis.call('ZSCORE', base .. 'later', ARGV[3])
return {record, place and int(place) or '', later or '', held and int(held) or '', held_why or '', collects, int(now), out}
