-- start(job id, grant, lease_ms) = ARGV[3..5]
-- May this attempt be made? Stamps the permit and the lease anew.
-- Returns  {"started", body, sender, step, attempts, fails, notes} | {"stale", state, calls, events}
-- Cost     O(log n), n permits of a window.

local id, grant, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
local job = base .. 'job:' .. id
local record = redis.call('HMGET', job, 'state', 'grant', 'destination', 'sender', 'expires_ms', 'step', 'score', 'way')
local state, destination, sender = record[1], record[3], record[4]
if not state then return {'stale', 'gone', calls, events} end
if state ~= 'called' or record[2] ~= grant then return {'stale', state, calls, events} end

local permit = id .. '/' .. grant
local step = tonumber(record[6] or 0)
local all = redis.call('HGET', base .. 'sender:*:closed', 'until')
-- The sender was closed between the call and now, or another job is its probe: back to the lane, nothing spent.
local shut = all and tonumber(all) > now
local probed = {}
for _, closed in ipairs(closings(sender)) do
  local held = redis.call('HMGET', closed, 'until', 'probe', 'cause')
  if held[1] and (tonumber(held[1]) > now or held[3] ~= 'busy' and held[2] ~= permit) then shut = true end
  if held[2] == permit then probed[#probed + 1] = closed end
end
local expired = tonumber(record[5]) <= now and step == 0
if shut or expired then
  give_permit_back(sender, id, grant)
  if expired then
    finish(id, 'expired', 'expired', 'not sent in time')
  else
    lift(id, destination, record[8])
    let_go(id)
    redis.call('HSET', job, 'calls', 0)
    wait_in_lane(id, destination, step > 0 and FRONT or record[7])
  end
  look(destination, MOST_CALLS)
  take_turns()
  return {'stale', expired and 'expired' or 'closed', calls, events}
end

local ends = now + lease_ms
redis.call('HSET', job, 'state', 'sending', 'started_ms', int(now), 'calls', 0)
lend(id, destination, record[8], ends)
for _, closed in ipairs(probed) do redis.call('HSET', closed, 'probe_until', int(ends)) end
stamp_permit(sender, permit, ends)
return as_started(id)
