-- settle(job id, grant, verdict, step, steps, sent "0|1", wait_ms, most, why, cause, receipt, notes,
--        closes sender or "", close_ms, close cause, close why, more, on_ms, kind) = ARGV[3..21]
-- `more` is a JSON object of what few attempts have: "route" of the next step, "rest_ms" before it, "keep_ms" that the
-- record is kept at least, "look_up_ms" after which the result is looked up, "mark" on an earlier job: {"id", "state",
-- "why", "receipt"}.
-- How an attempt ended: delivered, accepted, snooze, retry, unknown or dead. Moves the permit, may close a sender, calls.
-- `close_ms` is "month" until the next calendar month, "" for the sender's own cool-down. A second fault in a row marks the sender broken (event "broken").
-- With `on_ms` whoever asks goes on: the lane's next called job of this kind begins here and now, with such a lease, instead of
-- being published. Asked again because the answer was lost, it is given again.
-- Returns  {state, calls, events, next look, ahead} | {"stale", state, calls, events, ahead}; ahead is {} or
--          {job id, kind, destination, grant, what start returns}
-- Cost     O(log n), n jobs waiting in the lane.

local id, grant, verdict = ARGV[3], ARGV[4], ARGV[5]
local step, steps, sent = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local wait_ms, most, why, cause = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], ARGV[12]
local more, on_ms, kind = ARGV[19] ~= '{}' and cjson.decode(ARGV[19]) or {}, tonumber(ARGV[20]), ARGV[21]
local job = base .. 'job:' .. id
local record = record_of(id)
local state, destination, sender = record.state, record.destination, record.sender
if not state then return {'stale', 'gone', calls, events, {}} end

local permit = id .. '/' .. grant
local good = verdict == 'delivered' or verdict == 'accepted'

-- What was begun when this was settled before, where nobody heard the answer.
local function ahead_again()
  if on_ms == 0 then return {} end
  for _, out in ipairs(redis.call('ZRANGE', base .. 'busy:' .. destination, 0, -1)) do
    local other = record_of(out)
    if other.state == 'sending' and other.by == permit .. '>' .. other.grant then
      return {out, other.kind, destination, other.grant, as_started(out, other)}
    end
  end
  return {}
end

local current = state == 'sending' and record.grant == grant
if not current then
  -- Too late, but "it arrived" is news while the job is still to be sent, and after it was given up. Whose message is
  -- not kept any more can only have arrived whole.
  local open = state == 'waiting' or state == 'called' or state == 'sending'
  local given_up = state == 'dead' or (state == 'expired' or state == 'cancelled') and step + 1 >= steps
  if not (good and (open or given_up) and step == tonumber(record.step or 0)) then
    return {'stale', state, calls, events, ahead_again()}
  end
  if state == 'called' then give_permit_back(sender, id, record.grant) end
  if step > 0 then redis.call('HDEL', base .. 'hold:' .. destination, 'rests', 'rests_why') end
  if given_up then
    redis.call('ZREM', base .. 'dead', id)
    redis.call('PERSIST', job)
    redis.call('PERSIST', base .. 'body:' .. id)
    redis.call('HDEL', job, 'ended_ms')
    count('replayed')
  end
else
  if sent then
    stamp_permit(sender, permit, now)
    -- It ends sooner than its lease let others believe.
    if (sender_pace(sender) or {}).shared then touched[sender] = true end
  else
    give_permit_back(sender, id, grant)
  end
  -- DingTalk does not count what it refused for its rate.
  if sent and ARGV[17] == 'busy' then uncount_month(sender, id) end
  for _, one in ipairs(closings(sender)) do
    if one.ends then
      -- Only a success opens it again for all; a probe that told nothing leaves the next job to be the probe.
      if good then
        if one.ends <= now then
          reopen(one)
          -- Who waited for the probe need not wait for its lease.
          local of = (sender_pace(sender) or {}).of
          for _, name in ipairs(of and redis.call('HKEYS', base .. 'senders') or {sender}) do
            local sp = sender_pace(name)
            if sp and sp.shared and (name == sender or sp.of == of) then touched[name] = true end
          end
        end
      elseif one.probe == permit then
        drop_probe(one)
      end
    end
  end
  if good then
    redis.call('DEL', base .. 'sender:' .. sender .. ':faults')
    local pace = sender_pace(sender)
    if pace and pace.of then redis.call('DEL', base .. 'sender:' .. pace.of .. ':faults') end
  end
end
if more.route then redis.call('HSET', job, 'route', more.route) end
-- Who is sending stands nowhere else.
if current then take_back(id, destination, record.way) else lift(id, destination, record.way) end
local own_ms = let_go(id, record)

-- "@" is the sender of this attempt; a late answer's sender is not known any more and closes nothing.
local closes = ARGV[15] == '@' and (current and sender or '') or ARGV[15]
if closes ~= '' then
  local close_cause, sp = ARGV[17], sender_pace(closes)
  local close_ms = tonumber(ARGV[16]) or sp and sp.cooldown_ms or 600000
  if ARGV[16] == 'month' then
    local _, next_month = month()
    close_ms = next_month - now
  end
  local broken = false
  if close_cause == 'fault' then
    local faults = redis.call('INCR', base .. 'sender:' .. closes .. ':faults')
    redis.call('PEXPIRE', base .. 'sender:' .. closes .. ':faults', DAY_MS)
    broken = faults >= 2
    if not broken then close_ms = math.min(close_ms, 2000) end
    if faults == 2 then
      events[#events + 1] = 'broken'
      events[#events + 1] = closes
      events[#events + 1] = ARGV[18]
    end
  end
  local key, ended = closing(closes).key, closing(closes).ends or 0
  local ends = math.max(now + close_ms, ended)
  -- What closed it for longer goes on saying why.
  if broken or ends > ended then
    closed[closes] = nil
    redis.call('HSET', key, 'until', int(ends), 'cause', close_cause, 'why', ARGV[18], 'broken', broken and '1' or '0',
      'mark', sp and sp.mark or '')
    redis.call('HSETNX', key, 'since', now_ms)
    redis.call('HDEL', key, 'probe', 'probe_until')
    -- Kept past its end: the first job afterwards is a probe.
    keep(key, ends - now + (closes == '*' and STEP_MS or 30 * DAY_MS))
  end
  count('closed:' .. closes .. ':' .. close_cause)
end

-- What this job did to an earlier one is noted there, if its record is still kept.
local function mark(of)
  local other = base .. 'job:' .. of.id
  if redis.call('EXISTS', other) == 0 then return end
  -- Only what has ended well: a job that was replayed meanwhile stands in its lane.
  local was = redis.call('HGET', other, 'state')
  if of.state and (was == 'delivered' or was == 'accepted') then
    redis.call('HSET', other, 'state', of.state, 'cause', of.state)
  end
  if of.why then redis.call('HSET', other, 'why', of.why) end
  if of.receipt then
    local all = cjson.decode(redis.call('HGET', other, 'receipt') or '{}')
    for name, value in pairs(of.receipt) do all[name] = value end
    redis.call('HSET', other, 'receipt', cjson.encode(all))
  end
end

if more.mark then mark(more.mark) end
local attempted = 'attempts:' .. destination .. ':' .. verdict .. ':' .. cause
if not good or step + 1 < steps then count(attempted) end
if good then
  local receipt = ARGV[13]
  if steps > 1 then                               -- each step's own acknowledgement is kept: "2.request_id"
    local all = cjson.decode(record.receipt or '{}')
    for name, value in pairs(cjson.decode(receipt)) do
      -- A person's is told once, whichever step it came with.
      all[string.sub(name, 1, 7) == 'person.' and name or int(step + 1) .. '.' .. name] = value
    end
    receipt = cjson.encode(all)
  end
  local changes = {'own_ms', own_ms, 'attempts', int((record.attempts or 0) + 1), 'last', verdict, 'fails', '0', 'receipt', receipt,
    'notes', ARGV[14]}
  if step + 1 < steps then
    for _, value in ipairs({'why', '', 'cause', '', 'step', step + 1, 'steps', steps}) do changes[#changes + 1] = value end
    wait_for_retry(id, destination, FRONT, step + 1, more.rest_ms or 0, why, changes)
  else
    conclude(id, record, verdict, verdict, why, changes, {keep_ms = more.keep_ms, may_die = more.look_up_ms, attempted = attempted})
    if more.look_up_ms then
      redis.call('ZADD', base .. 'results', int(now + more.look_up_ms), id)
      redis.call('PEXPIRE', base .. 'results', 3 * DAY_MS)
    end
  end
elseif verdict == 'snooze' then
  redis.call('HINCRBY', job, 'snoozes', 1)
  local changes = {'own_ms', own_ms, 'notes', ARGV[14], 'last', verdict, 'why', why, 'cause', cause}
  wait_for_retry(id, destination, record.score, step, wait_ms, why, changes)
elseif verdict == 'dead' then
  redis.call('HINCRBY', job, 'attempts', sent and 1 or 0)
  conclude(id, record, 'dead', cause, why, {'own_ms', own_ms, 'notes', ARGV[14], 'last', verdict}, {})
else
  spend(id, record, verdict, why, cause, wait_ms, most, {'own_ms', own_ms, 'notes', ARGV[14]})
end
if on_ms > 0 then onward = {kind = kind, destination = destination, lease_ms = on_ms, by = permit} end
look(destination, MOST_CALLS)
take_turns()
-- What ended has ended; what waits may have gone on.
local ended = good and step + 1 >= steps and verdict or verdict == 'dead' and 'dead'
return {ended or redis.call('HGET', job, 'state'), calls, events, int(next_look()), onward and onward.ahead or {}}
