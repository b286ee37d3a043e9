-- release(most, max_deliveries, max_attempts, who asks or "") = ARGV[3..6]
-- What has the clock freed? Ends what expired, takes back ended leases, brings back what waited, calls lane after lane.
-- Returns  {calls, events, ms until the next look or -1, memory's mark or ""}
-- Cost     O(most x log n).

local most, max_deliveries, max_attempts = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local due = base .. 'due'
folds = true
if ARGV[6] ~= '' then sign(ARGV[6]) end

local function ended(name)
  return redis.call('ZRANGEBYSCORE', base .. name, '-inf', now_ms, 'LIMIT', 0, most)
end

for _, id in ipairs(ended('expiry')) do
  local record = redis.call('HMGET', base .. 'job:' .. id, 'state', 'step', 'destination')
  redis.call('ZREM', base .. 'expiry', id)
  if tonumber(record[2] or 0) == 0 then                     -- what has begun is brought to its end
    local ends = tonumber(redis.call('ZSCORE', base .. 'leases', id) or nil)
    if ends then                                            -- it is out, and may come back
      redis.call('ZADD', base .. 'expiry', int(math.max(ends, now + 1)), id)
    elseif record[1] == 'waiting' then
      finish(id, 'expired', 'expired', 'not sent in time')
      redis.call('ZADD', due, now_ms, record[3])          -- what stood first may be another, or nothing
    end
  end
end

for _, id in ipairs(ended('leases')) do
  local job = base .. 'job:' .. id
  local record = record_of(id)
  local state, destination = record.state, record.destination
  redis.call('ZREM', base .. 'leases', id)
  if state then
    lift(id, destination, record.way)
    redis.call('ZADD', due, now_ms, destination)
    if state == 'called' then                     -- the message was lost, or no worker is free: nothing has been sent
      give_permit_back(record.sender, id, record.grant)
      count('lost_calls:' .. destination)
      wait_in_lane(id, destination, tonumber(record.step or 0) > 0 and FRONT or record.score, {})
    elseif state == 'sending' then                -- the worker is gone in mid-attempt: its permit goes on counting
      local changes = {'own_ms', let_go(id, record)}
      local deaths = redis.call('HINCRBY', job, 'deaths', 1)
      count('attempts:' .. destination .. ':unknown:worker_lost')
      if deaths >= max_deliveries then
        redis.call('HINCRBY', job, 'unknowns', 1)
        conclude(id, record, 'dead', 'poison', 'took its worker down ' .. int(deaths) .. ' times', changes, {})
      else
        spend(id, record, 'unknown', 'the worker was lost in mid-attempt', 'worker_lost', 0, max_attempts, changes)
      end
    end
  end
end

for _, id in ipairs(ended('later')) do
  local record = redis.call('HMGET', base .. 'job:' .. id, 'destination', 'score', 'step')
  redis.call('ZREM', base .. 'later', id)
  if record[1] then
    wait_in_lane(id, record[1], tonumber(record[3] or 0) > 0 and FRONT or record[2], {})
    redis.call('ZADD', due, now_ms, record[1])
  end
end

for _, destination in ipairs(ended('due')) do
  if #calls >= 4 * MOST_CALLS then break end
  -- At a shared sender several may be due at once: whose turn it is goes first.
  for _, sender in ipairs((lane_pace(destination) or {}).senders or {}) do
    local sp = sender_pace(sender)
    if sp and sp.shared and (redis.call('ZRANK', base .. 'turns:' .. sender, destination) or 0) > 0 then touched[sender] = true end
  end
  take_turns()
  look(destination, 4)
end
take_turns()
return {calls, events, int(next_look()), redis.call('GET', base .. 'memory') or ''}
