-- pace(lanes, senders, keep_ms, mark of the memory the worker knew or "", rest_ms) = ARGV[3..7]
-- Publishes how fast each lane may go; lanes and senders are JSON objects as call.lua describes them.
-- A worker that knew another memory than this one tells that Redis forgot: every lane rests one window.
-- Returns  {mark of this memory, "rest" | ""}
-- Cost     O(lanes).

local lanes, senders = cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
local known, memory = ARGV[6], redis.call('GET', base .. 'memory')
local rested = ''
if not memory then
  memory = redis.sha1hex(base .. table.concat(redis.call('TIME'), '.'))
  redis.call('SET', base .. 'memory', memory)
end
if known ~= '' and known ~= memory then
  local closed, rests = base .. 'sender:*:closed', tonumber(ARGV[7])
  if tonumber(redis.call('HGET', closed, 'until') or 0) < now + rests then
    redis.call('HSET', closed, 'until', int(now + rests), 'cause', 'memory', 'since', int(now),
      'why', 'Redis lost its memory: nobody knows what was sent in the last window')
    keep(closed, rests + STEP_MS)
  end
  rested = 'rest'
end
redis.call('PEXPIRE', base .. 'memory', ARGV[5])
redis.call('DEL', base .. 'pace', base .. 'senders')
for sender, pace in pairs(senders) do
  redis.call('HSET', base .. 'senders', sender, cjson.encode(pace))
  -- A configuration that changed earns a closed sender its probe at once.
  local key = base .. 'sender:' .. sender .. ':closed'
  local closed = redis.call('HMGET', key, 'cause', 'mark')
  if closed[1] == 'fault' and closed[2] ~= pace.mark then
    redis.call('HSET', key, 'until', int(now), 'mark', pace.mark)
    redis.call('DEL', base .. 'sender:' .. sender .. ':faults')
  end
end
-- Lanes that have a turn at a sender which is not theirs any more would hold up the others for ever.
for sender, pace in pairs(senders) do
  local key, theirs = base .. 'turns:' .. sender, {}
  for _, destination in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local lane = lanes[destination]
    for _, one in ipairs(pace.shared and lane and lane.senders or {}) do
      if one == sender then theirs[destination] = true end
    end
    if not theirs[destination] then redis.call('ZREM', key, destination) end
  end
end
for destination, pace in pairs(lanes) do
  redis.call('HSET', base .. 'pace', destination, cjson.encode(pace))
  if redis.call('ZCARD', base .. 'lane:' .. destination) > 0 then redis.call('ZADD', base .. 'due', int(now), destination) end
end
redis.call('PEXPIRE', base .. 'pace', ARGV[5])
redis.call('PEXPIRE', base .. 'senders', ARGV[5])
count('paces')
redis.call('PEXPIRE', base .. 'counts', ARGV[5])
return {memory, rested}
