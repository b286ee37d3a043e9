-- The rule `call`, shared by every script of the fleet: it is put before each of them.
--
-- A script is run with KEYS[1] = <base>pace, ARGV[1] = <base>, ARGV[2] = now in ms or "" for the server's clock.
-- All keys start with <base>, which holds the fleet's hash tag: one slot, whatever a script finds out to touch.
--
--   pace                 hash   destination -> {"senders": [..], "in_flight": n, "expires_ms": n, "max_waiting": n,
--                               "call_lease_ms": n, "keep_ms": n, "keep_dead_ms": n, "digest_ms": n|null, "files":
--                               most bytes of one it can carry, "zip": bool}; where an app
--                               speaks also "routes": {route: {"senders": [..], "in_flight": n|null}} and "first": {what
--                               a job needs: the route of its first step}; "senders" are then those of all routes
--   senders              hash   sender -> {"windows": [[limit, ms], ..], "month": n|null, "month_reserve": n|null,
--                               "quota": whose month it is|null, "of": the app whose closing closes it too|null,
--                               "reserve": n, "cooldown_ms": n, "shared": bool, "mark": config fingerprint}
--   job:<id>             hash   the job's record (fields below)
--   body:<id>            string the job on the wire; apart, so that the small record stays packed
--   lane:<destination>   zset   waiting job -> urgent first, then submission number
--   hold:<destination>   hash   {until, why}: paused by somebody; {rests, rests_why}: a job of several steps waits to go on
--   rest:<destination>   string until when a digest lane collects what comes, ms
--   single:<destination> string its first job goes alone: nothing that waits there can be folded
--   busy:<destination>   zset   job that is out -> end of its lease, ms; with "/<route>" those out by a route with a limit
--   leases               zset   job that is out -> end of its lease, ms
--   later                zset   job -> not before, ms
--   expiry               zset   job that may still wait -> not worth sending after, ms
--   due                  zset   lane with something waiting -> when somebody must look, ms
--   turns:<sender>       zset   lane that waits for a shared sender -> its turn
--   sender:<s>:<window>  zset   permit "<job>/<grant>" -> counts until, ms; what has ended goes when it seems full
--   sender:<s>:<yyyymm>  string permits of a calendar month (Beijing's, as DingTalk bills); <s> may be a quota's name
--   sender:<s>:closed    hash   {until, cause, why, since, mark, probe, probe_until}; <s> = * closes all
--   sender:<s>:faults    string proofs of misconfiguration since the last success
--   dead                 zset   dead job -> when it died, ms
--   token_ends           hash   app -> when its token ends, ms; 0 after DingTalk refused it
--   alive                zset   "<role>:<host>:<process>" -> its last sign of life, ms
--   counts               hash   counters and histogram buckets, each told of in ops/METRICS.md
--
-- Every key but those of waiting jobs expires.
--
-- Nobody comes between a script's commands: so it reads a thing once and keeps it, and writes what belongs together at
-- once. Two fifths of its time are Lua itself, which makes all that stands here anew for each run.

local base = ARGV[1]
local NORMAL = 4e15                 -- score of a job that is not urgent = NORMAL + its number
local FRONT = -1                    -- score of a job in mid-steps: before all others
local DAY_MS = 86400000
local STEP_MS = 60000               -- the server's clock may go back so far: what ends by our time is forgotten no sooner
local MOST_CALLS = 16               -- calls in one go; the rest is due at once
local CALL_LEASE_CAP_MS = 300000
local FOLD_LEASE_MS = 5000
local LOOK_PAST = 50                -- jobs whose own route is full, past which a lane with routes is searched

-- A whole number as text. %d is many times as quick as %.0f, and too short where the server is a 32-bit program.
local WHOLE = string.format('%d', NORMAL) == '4000000000000000' and '%d' or '%.0f'
local function int(x) return string.format(WHOLE, x) end

local went_back = 0                 -- ms, where this is the first script to meet it

local function clock()
  if ARGV[2] ~= '' then return tonumber(ARGV[2]) end
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  -- Never going back: a step of the server's clock must not free permits. More than a minute is no step but a new truth.
  local function note(ms) return redis.call('SET', base .. 'clock', int(ms), 'PX', '86400000', 'GET') end
  local last = tonumber(note(now) or 0)
  if last > now and last - now < STEP_MS then
    note(last)
    return last
  end
  went_back = math.max(last - now, 0)
  return now
end

local now = clock()
local now_ms = int(now)
local folds = false                 -- may this script ask for digests? Only where somebody hears its events
local calls = {}                    -- flat: id, kind, destination, grant
local onward                        -- who settles a job and goes on: {kind, destination, lease_ms, by}; `give` adds "ahead"
local events = {}                   -- flat: what a person may want to hear once: name, subject, why
local touched = {}                  -- shared senders whose turns must be looked at before the script ends
local lane_paces, sender_paces, closed, lasting = {}, {}, {}, {}     -- what was read already

-- Redis keeps it at least so long.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, int(ms)) end
end

local function count(field, n) redis.call('HINCRBY', base .. 'counts', field, n or '1') end

-- Several at once: flat, field and how many more, each field once. Two commands, however many there are.
local function count_all(changes)
  local fields = {}
  for i = 1, #changes, 2 do fields[(i + 1) / 2] = changes[i] end
  local was = redis.call('HMGET', base .. 'counts', unpack(fields))
  for i = 1, #fields do changes[2 * i] = int((was[i] or 0) + changes[2 * i]) end
  redis.call('HSET', base .. 'counts', unpack(changes))
end

-- A process says that it is there; who has said nothing for a day is forgotten.
local function sign(who)
  redis.call('ZADD', base .. 'alive', now_ms, who)
  redis.call('ZREMRANGEBYSCORE', base .. 'alive', '-inf', int(now - DAY_MS))
  redis.call('PEXPIRE', base .. 'alive', DAY_MS)
end

local BUCKETS = {500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000, 600000, 1800000, 3600000, 7200000}

-- The counter of a histogram that a time falls into.
local function bucket(name, destination, ms)
  local edge = 'inf'
  for i = 1, #BUCKETS do
    if ms <= BUCKETS[i] then edge = int(BUCKETS[i]) break end
  end
  return name .. ':' .. destination .. ':' .. edge
end

-- A job's record by its fields' names, empty where there is none. It is packed: all of it is as dear as a few fields.
local function record_of(id)
  local record, flat = {}, redis.call('HGETALL', base .. 'job:' .. id)
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

-- The job leaves the fleet's hands: what it took in them is the fleet's and DingTalk's own time. All else of a job's
-- time is waiting for a limit, a back-off or its hour. Returns its own_ms, for the caller to write.
local function let_go(id, record)
  if record.ready_ms then
    record.own_ms = int((record.own_ms or 0) + math.max(now - record.ready_ms, 0))
    redis.call('HDEL', base .. 'job:' .. id, 'ready_ms', 'by')
  end
  return record.own_ms or '0'
end

local function lane_pace(destination)
  local pace = lane_paces[destination]
  if pace == nil then
    local text = redis.call('HGET', base .. 'pace', destination)
    pace = text and cjson.decode(text)
    lane_paces[destination] = pace
  end
  return pace
end

local function sender_pace(sender)
  local pace = sender_paces[sender]
  if pace == nil then
    local text = redis.call('HGET', base .. 'senders', sender)
    pace = text and cjson.decode(text)
    sender_paces[sender] = pace
  end
  return pace
end

-- Year and month of Beijing's calendar, and when the next month begins (civil-from-days).
local function month()
  local days = math.floor((now + 28800000) / DAY_MS)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local m = mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400 + (m <= 2 and 1 or 0)
  local first = days - (day - 1)
  local lengths = {31, (y % 4 == 0 and (y % 100 ~= 0 or y % 400 == 0)) and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
  return string.format('%04d%02d', y, m), (first + lengths[m]) * DAY_MS - 28800000
end

local function window_key(sender, window)
  window.key = window.key or base .. 'sender:' .. sender .. ':' .. int(window[2])
  return window.key
end

local function stamp_permit(sender, permit, counts_from)
  local pace = sender_pace(sender)
  if not pace then return end
  for _, window in ipairs(pace.windows) do
    local key = window_key(sender, window)
    local lasts = counts_from - now + window[2]
    redis.call('ZADD', key, int(counts_from + window[2]), permit)
    -- As long as its longest permit, which may be another one; and longer, so that this need not be said each time. What
    -- a script stamps it does not take back: the key stays, and what is known of its end.
    lasting[key] = lasting[key] or redis.call('PTTL', key)
    if lasting[key] < lasts then
      lasting[key] = lasts + CALL_LEASE_CAP_MS
      redis.call('PEXPIRE', key, int(lasting[key]))
    end
  end
end

local function month_key(sender, pace, of) return base .. 'sender:' .. (pace.quota or sender) .. ':' .. (of or month()) end

-- The month that it was counted in, for when it must be taken back; nil where nobody counts.
local function count_month(sender, n, of)
  local pace = sender_pace(sender)
  if not pace or not (pace.month or pace.quota) then return nil end
  of = of or month()
  local key = month_key(sender, pace, of)
  redis.call('INCRBY', key, n)
  redis.call('PEXPIRE', key, 40 * DAY_MS)
  return of
end

local function take_permit(sender, permit, counts_from)
  stamp_permit(sender, permit, counts_from)
  return count_month(sender, 1)
end

-- What was not sent, or not counted by DingTalk, is taken back in the month in which it was counted.
local function uncount_month(sender, id)
  count_month(sender, -1, redis.call('HGET', base .. 'job:' .. id, 'month') or nil)
end

-- What closes a sender or did so: `ends` is nil where it is open, with no probe to come.
local function closing(sender)
  local found = closed[sender]
  if not found then
    local key = base .. 'sender:' .. sender .. ':closed'
    local held = redis.call('HMGET', key, 'until', 'cause', 'probe', 'probe_until')
    found = {key = key, ends = tonumber(held[1] or nil), cause = held[2], probe = held[3], probe_ends = tonumber(held[4] or nil)}
    closed[sender] = found
  end
  return found
end

-- What may close a sender: itself, and the app that it is an interface of.
local function closings(sender)
  local pace = sender_pace(sender)
  return {closing(sender), pace and pace.of and closing(pace.of) or nil}
end

local function reopen(one)
  redis.call('DEL', one.key)
  one.ends, one.cause, one.probe, one.probe_ends = nil, nil, nil, nil
end

local function set_probe(one, permit, ends)
  redis.call('HSET', one.key, 'probe', permit, 'probe_until', int(ends))
  one.probe, one.probe_ends = permit, ends
end

-- The next job is the probe.
local function drop_probe(one)
  redis.call('HDEL', one.key, 'probe', 'probe_until')
  one.probe, one.probe_ends = nil, nil
end

-- The permit is free again; if it was a probe's, the next job is the probe.
local function give_permit_back(sender, id, grant)
  local permit = id .. '/' .. grant
  local pace = sender_pace(sender)
  if not pace then return end
  for _, window in ipairs(pace.windows) do redis.call('ZREM', window_key(sender, window), permit) end
  uncount_month(sender, id)
  for _, one in ipairs(closings(sender)) do
    if one.probe == permit then drop_probe(one) end
  end
  if pace.shared then touched[sender] = true end
end

-- When a sender is closed: until when, else nil. The first job after a mute is a probe: no second one beside it.
local function closed_until(sender)
  local all = closing('*').ends
  local at = all and all > now and all or nil
  for _, one in ipairs(closings(sender)) do
    local ends = nil
    if one.ends and one.ends > now then
      ends = one.ends
    elseif one.cause == 'busy' then
      reopen(one)
    elseif one.probe_ends and one.probe_ends > now then
      ends = one.probe_ends
    end
    if ends and (not at or ends > at) then at = ends end
  end
  return at
end

-- How many a window takes from this kind of job.
local function most_of(window, pace, urgent) return urgent and window[1] or math.max(window[1] - pace.reserve, 1) end

-- When the month ends, where its quota is used up; else nil.
local function spent_until(sender, pace, urgent)
  if not pace.month then return nil end
  local of, ends = month()
  local used = tonumber(redis.call('GET', month_key(sender, pace, of)) or 0)
  return used >= (urgent and pace.month or pace.month - (pace.month_reserve or 0)) and ends or nil
end

-- Once more: Lua looks for what a function takes from above among all that stands between, at each run.
local base, now, now_ms, int = base, now, now_ms, int

-- Has the sender room for the lane's first job? nil, or when to look again. `ahead` lanes go before this one.
local function full_until(sender, urgent, ahead)
  local pace = sender_pace(sender)
  if not pace then return now + 60000 end
  local at = closed_until(sender)
  if at then return at end
  for _, window in ipairs(pace.windows) do
    local key = window_key(sender, window)
    local most = most_of(window, pace, urgent)
    local used = redis.call('ZCARD', key)
    -- Permits that have ended are swept only where they seem to fill it: so there are never more than it takes.
    if used + ahead >= most then used = used - redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms) end
    local over = used + ahead - most                                -- permits that must end first, less one
    if over >= 0 then
      local first = redis.call('ZRANGE', key, int(math.min(over, used - 1)), int(math.min(over, used - 1)), 'WITHSCORES')
      local ends = tonumber(first[2]) or now
      if not at or ends > at then at = ends end
    end
  end
  return at or spent_until(sender, pace, urgent)
end

-- How a job goes: the senders that may carry its next step, the route's name, and the route's own limit of jobs out.
-- A route that is not published (any more) is nobody's: whoever is asked says where else.
local function way(pace, need, route)
  if not pace.routes then return pace.senders end
  local name = route and pace.routes[route] and route or pace.first[need or 'send'] or pace.first.send
  local found = pace.routes[name]
  return found.senders, name, found.in_flight
end

-- `but` are senders whose turn the lane keeps.
local function leave_turns(destination, senders, but)
  for _, sender in ipairs(senders) do
    local sp = sender_pace(sender)
    if sp and sp.shared and not (but and but[sender]) and redis.call('ZREM', base .. 'turns:' .. sender, destination) == 1 then touched[sender] = true end
  end
end

local function join_turns(destination, senders, urgent)
  for _, sender in ipairs(senders) do
    local sp = sender_pace(sender)
    if sp and sp.shared then
      local key = base .. 'turns:' .. sender
      local turn = tonumber(redis.call('ZSCORE', key, destination) or nil)
      if not turn or urgent ~= (turn < 0) then              -- a new one, or one of the other kind
        if turn and not urgent then touched[sender] = true end
        turn = redis.call('HINCRBY', base .. 'counts', 'turns', 1)
        redis.call('ZADD', key, int(urgent and turn - NORMAL or turn), destination)
      end
      redis.call('PEXPIRE', key, 40 * DAY_MS)
    end
  end
end

-- Of these senders of a lane the one with room and the most of it, or nil and when to look again.
local function pick_sender(destination, senders, urgent)
  local best, best_used, at
  for _, sender in ipairs(senders) do
    local sp = sender_pace(sender)
    local ahead = 0
    if sp and sp.shared then
      local key = base .. 'turns:' .. sender
      local turn = tonumber(redis.call('ZSCORE', key, destination) or nil)
      if turn and (turn < 0 or not urgent) then
        ahead = redis.call('ZRANK', key, destination)
      else                                                  -- as if it stood behind the last of its kind
        ahead = urgent and redis.call('ZCOUNT', key, '-inf', '(0') or redis.call('ZCARD', key)
      end
    end
    local full = full_until(sender, urgent, ahead)
    if full then
      if not at or full < at then at = full end
    else
      local window = sp.windows[1]
      local used = window and #senders > 1 and redis.call('ZCOUNT', window_key(sender, window), '(' .. now_ms, '+inf') / window[1] or 0
      if not best or used < best_used then best, best_used = sender, used end
    end
  end
  return best, at or now + 60000
end

-- A job that is out is out no more. Its permit is not touched.
local function take_back(id, destination, name)
  redis.call('ZREM', base .. 'busy:' .. destination, id)
  redis.call('ZREM', base .. 'leases', id)
  if name then redis.call('ZREM', base .. 'busy:' .. destination .. '/' .. name, id) end
end

-- Forgets where a job waits or is out, whatever the pace was when it was called.
local function lift(id, destination, name)
  redis.call('ZREM', base .. 'lane:' .. destination, id)
  redis.call('ZREM', base .. 'later', id)
  take_back(id, destination, name)
end

-- The job is out until its lease ends.
local function lend(id, destination, name, ends)
  ends = int(ends)
  redis.call('ZADD', base .. 'busy:' .. destination, ends, id)
  redis.call('ZADD', base .. 'leases', ends, id)
  if name then
    local pace = lane_pace(destination)
    local route = pace and pace.routes and pace.routes[name]
    local key = base .. 'busy:' .. destination .. '/' .. name
    -- A limit that the pace does not name (any more) still holds whom it counted when they were called.
    if route and route.in_flight then redis.call('ZADD', key, ends, id) else redis.call('ZADD', key, 'XX', ends, id) end
  end
end

-- The last state of a job that was lifted, kept as long as its lane says, or longer. Who died (or may still) keeps its
-- body, for replay. `changes`, flat, is what else changes in its record; `more` may have "keep_ms" and "may_die", and has
-- "attempted", the counter of its last attempt, where that delivered it.
local function conclude(id, record, state, cause, why, changes, more)
  local job, body, destination = base .. 'job:' .. id, base .. 'body:' .. id, record.destination
  local pace = lane_pace(destination)
  local keep_ms = state == 'dead' and (pace and pace.keep_dead_ms or 30 * DAY_MS) or pace and pace.keep_ms or DAY_MS
  keep_ms = int(math.max(keep_ms, more.keep_ms or 0))
  redis.call('ZREM', base .. 'expiry', id)
  redis.call('HSET', job, 'state', state, 'ended_ms', now_ms, 'cause', cause, 'why', why, unpack(changes))
  if state == 'expired' then
    for _, value in ipairs({'expired', id, destination}) do events[#events + 1] = value end
  end
  if state == 'dead' then
    events[#events + 1] = 'dead'
    events[#events + 1] = id
    events[#events + 1] = why
    redis.call('ZADD', base .. 'dead', now_ms, id)
    keep(base .. 'dead', tonumber(keep_ms))
    redis.call('PEXPIRE', body, keep_ms)
  elseif more.may_die then
    redis.call('PEXPIRE', body, keep_ms)
  else
    redis.call('DEL', body)
  end
  redis.call('PEXPIRE', job, keep_ms)
  local ended = 'ended:' .. record.kind .. ':' .. destination .. ':' .. state
  if state == 'delivered' or state == 'accepted' then
    local own = math.max(tonumber(record.own_ms or 0), 0)
    local since = math.max(tonumber(record.submitted_ms), tonumber(record.at_ms or 0), tonumber(record.replayed_ms or 0))
    local whole = math.max(now - since, 0)
    count_all({more.attempted, 1, ended, 1,
      bucket('latency', destination, whole), 1, 'latency_ms:' .. destination, whole,
      bucket('own', destination, own), 1, 'own_ms:' .. destination, own})
  else
    count(ended)
  end
end

local function finish(id, state, cause, why)
  local held = redis.call('HMGET', base .. 'job:' .. id, 'kind', 'destination', 'way')
  lift(id, held[2], held[3])
  conclude(id, {kind = held[1], destination = held[2]}, state, cause, why, {}, {})
end

-- What whoever carries a job out must know.
local function as_started(id, record)
  return {'started', redis.call('GET', base .. 'body:' .. id) or '', record.sender, record.step or '0', record.attempts or '0',
    record.fails or '0', record.notes or '{}'}
end

-- The record's way back to its place in the lane, with what else changes in it.
local function wait_in_lane(id, destination, score, changes)
  redis.call('HSET', base .. 'job:' .. id, 'state', 'waiting', unpack(changes))
  redis.call('ZADD', base .. 'lane:' .. destination, score, id)
end

-- The lane's first job goes out: called, or begun at once by whoever goes on. Returns the end of its lease.
local function give(id, record, destination, sender, name, ready)
  local kind, grant = record.kind, int((record.grant or 0) + 1)
  local permit = id .. '/' .. grant
  -- A worker that dies now ends a begun attempt as unknown, though nothing has left: that is not for who may not wonder.
  local begins = onward and not onward.ahead and onward.kind == kind and onward.destination == destination and record.on_unknown ~= 'hold'
  ready = record.ready_ms or int(ready)                     -- a call that was lost goes on counting
  local lease, changes
  if begins then
    lease = onward.lease_ms
    changes = {'grant', grant, 'sender', sender, 'ready_ms', ready, 'state', 'sending', 'started_ms', now_ms, 'calls', '0',
      'by', onward.by .. '>' .. grant}
  else
    local unanswered = (record.calls or 0) + 1
    lease = math.min(lane_pace(destination).call_lease_ms * 2 ^ (unanswered - 1), CALL_LEASE_CAP_MS)
    changes = {'grant', grant, 'sender', sender, 'ready_ms', ready, 'state', 'called', 'calls', int(unanswered)}
  end
  local ends = now + lease
  redis.call('ZREM', base .. 'lane:' .. destination, id)
  lend(id, destination, name, ends)
  local rest = lane_pace(destination).digest_ms
  if rest then redis.call('SET', base .. 'rest:' .. destination, int(now + rest), 'PX', int(rest + STEP_MS)) end
  local of = take_permit(sender, permit, ends)
  for field, value in pairs({way = name, month = of}) do
    changes[#changes + 1] = field
    changes[#changes + 1] = value
  end
  redis.call('HSET', base .. 'job:' .. id, unpack(changes))
  for _, one in ipairs(closings(sender)) do
    if one.ends then set_probe(one, permit, ends) end
  end
  if begins then
    record.sender = sender
    onward.ahead = {id, kind, destination, grant, as_started(id, record)}
  else
    for _, value in ipairs({id, kind, destination, grant}) do calls[#calls + 1] = value end
  end
  return ends
end

-- Until when the lane rests by itself, and why; else nil.
local function held_until(destination)
  local held = redis.call('HMGET', base .. 'hold:' .. destination, 'until', 'why', 'rests', 'rests_why')
  local paused, rests = tonumber(held[1] or 0), tonumber(held[3] or 0)
  if math.max(paused, rests) <= now then return nil end
  if paused >= rests then return paused, held[2] or '' end
  return rests, held[4] or ''
end

-- A digest lane rests after each message; what came in a rest is folded into one before the next.
-- nil when the lane's first job may go as it is, else when to look again.
local function collects_until(destination, lane, id)
  local rests = tonumber(redis.call('GET', base .. 'rest:' .. destination) or 0)
  if rests > now then return rests end
  if redis.call('ZCARD', lane) < 2 or redis.call('HGET', base .. 'job:' .. id, 'merges') then return nil end
  if redis.call('DEL', base .. 'single:' .. destination) == 1 then return nil end
  if not folds then return now end
  events[#events + 1] = 'digest'
  events[#events + 1] = destination
  events[#events + 1] = ''
  -- Whoever hears it folds within this time; if they are gone, the next one is asked.
  redis.call('SET', base .. 'rest:' .. destination, int(now + FOLD_LEASE_MS), 'PX', FOLD_LEASE_MS + STEP_MS)
  return now + FOLD_LEASE_MS
end

-- Calls what the lane may send now and notes when somebody must look again. Jobs go in order; only where they have
-- routes does one go past those whose own route is full.
local function look(destination, most)
  local lane, due, busy = base .. 'lane:' .. destination, base .. 'due', base .. 'busy:' .. destination
  local pace = lane_pace(destination)
  local given, expired = 0, 0
  local place, full, soonest, joined = 0, {}, nil, {}
  local appointed = tonumber(redis.call('ZSCORE', due, destination) or nil)
  -- When the lane's first job might have gone: looking later than that is the fleet's own time.
  local planned = appointed or now

  local function wait(at)
    at = math.max(at, now + 1)
    if at ~= appointed then redis.call('ZADD', due, int(at), destination) end
  end
  local function wait_for_senders()
    leave_turns(destination, pace.senders, joined)           -- where nothing that was looked at waits any more
    return wait(soonest)
  end

  -- The lane's jobs from its head on, two at a time: who was given or has expired stands there no more.
  local ids, taken = {}, 0
  local function next_job()
    if taken == #ids and #ids ~= 1 then                     -- one alone was the last
      ids, taken = redis.call('ZRANGE', lane, int(place), int(place + 1)), 0
    end
    taken = taken + 1
    return ids[taken]
  end

  -- Until when the lane itself lets nobody go, whoever is first: it is held, or as many are out as may be. Else nil.
  local rests, out, first_back
  local function shut_until()
    if not out then rests, out = held_until(destination) or false, redis.call('ZCARD', busy) end
    if rests then return rests end
    if out < pace.in_flight then return nil end
    -- Where all that are out were given here, it is known who comes back first.
    return out == given and first_back or tonumber(redis.call('ZRANGE', busy, 0, 0, 'WITHSCORES')[2])
  end

  while true do
    local id = next_job()
    if not id then
      if soonest then return wait_for_senders() end
      if appointed then redis.call('ZREM', due, destination) end
      if pace then leave_turns(destination, pace.senders) end
      return
    end
    if not pace then return wait(now + 60000) end
    local shut = shut_until()
    local enough = given >= most or #calls >= 4 * MOST_CALLS
    local record
    if shut or enough then                                  -- of who must wait only this is asked: is it too late?
      local held = redis.call('HMGET', base .. 'job:' .. id, 'kind', 'expires_ms', 'step')
      record = {kind = held[1], expires_ms = held[2], step = held[3]}
    else
      record = record_of(id)
    end
    local step = tonumber(record.step or 0)
    if not record.kind then                                 -- its record is gone (evicted): nothing to send
      redis.call('ZREM', lane, id)
    elseif tonumber(record.expires_ms) <= now and step == 0 then
      finish(id, 'expired', 'expired', 'not sent in time')
      expired = expired + 1
      if expired >= 100 then return redis.call('ZADD', due, now_ms, destination) end
    elseif shut then
      leave_turns(destination, pace.senders)
      return wait(shut)
    elseif enough then
      return redis.call('ZADD', due, now_ms, destination)     -- more may go; others first
    else
      local urgent = record.urgent == '1'
      local senders, name, in_flight = way(pace, record.need, record.route)
      local sender, at
      if name and full[name] then
        at = soonest
      elseif in_flight and redis.call('ZCARD', busy .. '/' .. name) >= in_flight then
        leave_turns(destination, senders)
        at = tonumber(redis.call('ZRANGE', busy .. '/' .. name, 0, 0, 'WITHSCORES')[2])
      else
        sender, at = pick_sender(destination, senders, urgent)
        if not sender then
          join_turns(destination, senders, urgent)
          for _, one in ipairs(senders) do joined[one] = true end
        end
      end
      if not sender then
        if not soonest or at < soonest then soonest = at end
        place = place + 1
        if not name or place >= LOOK_PAST then return wait_for_senders() end
        full[name] = true
      else
        if pace.digest_ms and not urgent and step == 0 then
          local collects = collects_until(destination, lane, id)
          if collects then
            leave_turns(destination, senders)
            return wait(collects)
          end
        end
        leave_turns(destination, senders)
        local ready = math.min(math.max(planned, tonumber(record.submitted_ms), tonumber(record.at_ms or 0)), now)
        local back = give(id, record, destination, sender, name, ready)
        given, out, planned, first_back = given + 1, out + 1, now, math.min(first_back or back, back)
      end
    end
  end
end

-- Whose turn is it at the shared senders that were touched? The first lane that must wait ends the round.
local function take_turns()
  for _ = 1, 64 do
    local sender = next(touched)
    if not sender then return end
    touched[sender] = nil
    local first = redis.call('ZRANGE', base .. 'turns:' .. sender, 0, 0)[1]
    if first and #calls < 4 * MOST_CALLS then
      look(first, 1)
      if redis.call('ZRANGE', base .. 'turns:' .. sender, 0, 0)[1] ~= first then touched[sender] = true else touched[sender] = nil end
    elseif first then
      redis.call('ZADD', base .. 'due', now_ms, first)
    end
  end
  for sender in pairs(touched) do
    local first = redis.call('ZRANGE', base .. 'turns:' .. sender, 0, 0)[1]
    if first then redis.call('ZADD', base .. 'due', now_ms, first) end
  end
end

-- The server's clock went back by more than a step: what was to last some time from now is moved with it, or all of it
-- would last so much longer. What people named (send-at, expiry, the end of a pause) and what was noted stays as it is.
local function move_back(by)
  local function move(key)
    local rows = redis.call('ZRANGEBYSCORE', key, '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 10000)
    for i = 1, #rows, 2 do redis.call('ZADD', key, int(rows[i + 1] - by), rows[i]) end
    return rows
  end
  local function move_fields(key, ...)
    local held = redis.call('HMGET', key, ...)
    for i, name in ipairs({...}) do
      if held[i] then redis.call('HSET', key, name, int(held[i] - by)) end
    end
  end
  local out, moved = move(base .. 'leases'), {}
  for i = 1, #out, 2 do
    local record = redis.call('HMGET', base .. 'job:' .. out[i], 'destination', 'way')
    local busy = base .. 'busy:' .. (record[1] or '')
    for _, key in ipairs({busy, record[2] and busy .. '/' .. record[2] or nil}) do
      if not moved[key] then move(key) end
      moved[key] = true
    end
  end
  -- Back-offs are among the next; a time that somebody named is in the record, too.
  local rows = redis.call('ZRANGEBYSCORE', base .. 'later', now_ms, int(now + by + 3600000), 'WITHSCORES', 'LIMIT', 0, 10000)
  for i = 1, #rows, 2 do
    if redis.call('HGET', base .. 'job:' .. rows[i], 'at_ms') ~= rows[i + 1] then
      redis.call('ZADD', base .. 'later', int(rows[i + 1] - by), rows[i])
    end
  end
  for _, destination in ipairs(redis.call('ZRANGE', base .. 'due', 0, -1)) do
    move_fields(base .. 'hold:' .. destination, 'rests')
    redis.call('DEL', base .. 'rest:' .. destination)
    redis.call('ZADD', base .. 'due', now_ms, destination)
  end
  move_fields(base .. 'sender:*:closed', 'until')
  for _, sender in ipairs(redis.call('HKEYS', base .. 'senders')) do
    for _, window in ipairs(sender_pace(sender).windows) do move(window_key(sender, window)) end
    move_fields(base .. 'sender:' .. sender .. ':closed', 'until', 'probe_until')
  end
  move(base .. 'results')
end

if went_back > 0 then move_back(went_back) end

-- How long until somebody must look, ms; -1 when nothing is pending.
local function next_look()
  local soonest
  for _, name in ipairs({'due', 'leases', 'later', 'expiry'}) do
    local first = tonumber(redis.call('ZRANGE', base .. name, '0', '0', 'WITHSCORES')[2] or nil)
    if first and (not soonest or first < soonest) then soonest = first end
  end
  if not soonest then return -1 end
  return math.max(soonest - now, 0)
end
