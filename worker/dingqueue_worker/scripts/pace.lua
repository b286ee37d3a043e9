-- pace(keep_ms, mark of the memory the worker knew or "", rest_ms, how many lanes, lane, its pace, ..., sender, its pace, ...)
--   = ARGV[3..6], ARGV[7..]
-- Publishes how fast each lane and sender may go; a pace is a JSON object as call.lua describes it.
-- A worker that knew another memory than this one tells that Redis forgot: every lane rests one window.
-- Returns  {mark of this memory, "rest" | ""}
-- Cost     O(lanes and senders).

local keep_ms, known, rests = ARGV[3], ARGV[4], tonumber(ARGV[5])
local FIRST, MOST_FIELDS = 7, 1000
local senders_from = FIRST + 2 * tonumber(ARGV[6])
local memory, rested = redis.call('GET', base .. 'memory'), ''
if not memory then
  memory = redis.sha1hex(base .. table.concat(redis.call('TIME'), '.'))
  redis.call('SET', base .. 'memory', memory)
end
if known ~= '' and known ~= memory then
  local closed = base .. 'sender:*:closed'
  if tonumber(redis.call('HGET', closed, 'until') or 0) < now + rests then
    redis.call('HSET', closed, 'until', int(now + rests), 'cause', 'memory', 'since', int(now),
      'why', 'Redis lost its memory: nobody knows what was sent in the last window')
    keep(closed, rests + STEP_MS)
  end
  rested = 'rest'
end
redis.call('PEXPIRE', base .. 'memory', keep_ms)

local changed = {}                                          -- senders
for i = senders_from, #ARGV, 2 do
  if redis.call('HGET', base .. 'senders', ARGV[i]) ~= ARGV[i + 1] then changed[#changed + 1] = ARGV[i] end
end
redis.call('UNLINK', base .. 'pace', base .. 'senders')
local function fill(key, from, to)
  for i = from, to, MOST_FIELDS do redis.call('HSET', key, unpack(ARGV, i, math.min(i + MOST_FIELDS - 1, to))) end
  redis.call('PEXPIRE', key, keep_ms)
end
fill(base .. 'pace', FIRST, senders_from - 1)
fill(base .. 'senders', senders_from, #ARGV)

-- A configuration that changed earns a closed sender its probe at once.
for _, sender in ipairs(changed) do
  local key = base .. 'sender:' .. sender .. ':closed'
  local closed = redis.call('HMGET', key, 'cause', 'mark')
  if closed[1] == 'fault' and closed[2] ~= sender_pace(sender).mark then
    redis.call('HSET', key, 'until', int(now), 'mark', sender_pace(sender).mark)
    redis.call('DEL', base .. 'sender:' .. sender .. ':faults')
  end
end

-- A lane that has a turn at a sender which is not its own any more would hold up the others for ever.
local function own(destination, sender)
  local pace = lane_pace(destination)
  for _, one in ipairs(pace and sender_pace(sender).shared and pace.senders or {}) do
    if one == sender then return true end
  end
  return false
end
for i = senders_from, #ARGV, 2 do
  local turns = base .. 'turns:' .. ARGV[i]
  for _, destination in ipairs(redis.call('ZRANGE', turns, 0, -1)) do
    if not own(destination, ARGV[i]) then redis.call('ZREM', turns, destination) end
  end
end

for i = FIRST, senders_from - 1, 2 do
  if redis.call('ZCARD', base .. 'lane:' .. ARGV[i]) > 0 then redis.call('ZADD', base .. 'due', int(now), ARGV[i]) end
end
count('paces')
redis.call('PEXPIRE', base .. 'counts', keep_ms)
return {memory, rested}
