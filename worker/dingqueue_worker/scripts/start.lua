-- start(job id, grant, lease_ms) = ARGV[3..5]
-- May this attempt be made? Stamps the permit and the lease anew.
-- Returns  {"started", body, sender, step, attempts, fails, notes} | {"stale", state, calls, events}
-- Cost     O(log n), n permits of a window.

local id, grant, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
local job = base .. 'job:' .. id
local record = record_of(id)
local state, destination, sender = record.state, record.destination, record.sender
if not state then return {'stale', 'gone', calls, events} end
if state ~= 'called' or record.grant ~= grant then return {'stale', state, calls, events} end

local permit = id .. '/' .. grant
local step = tonumber(record.step or 0)
local all = closing('*').ends
-- The sender was closed between the call and now, or another job is its probe: back to the lane, nothing spent.
local shut = all and all > now
for _, one in ipairs(closings(sender)) do
  if one.ends and (one.ends > now or one.cause ~= 'busy' and one.probe ~= permit) then shut = true end
end
local expired = tonumber(record.expires_ms) <= now and step == 0
if shut or expired then
  give_permit_back(sender, id, grant)
  if expired then
    finish(id, 'expired', 'expired', 'not sent in time')
  else
    lift(id, destination, record.way)
    wait_in_lane(id, destination, step > 0 and FRONT or record.score, {'calls', '0', 'own_ms', let_go(id, record)})
  end
  look(destination, MOST_CALLS)
  take_turns()
  return {'stale', expired and 'expired' or 'closed', calls, events}
end

local ends = now + lease_ms
redis.call('HSET', job, 'state', 'sending', 'started_ms', now_ms, 'calls', '0')
lend(id, destination, record.way, ends)
for _, one in ipairs(closings(sender)) do
  if one.probe == permit then set_probe(one, permit, ends) end
end
stamp_permit(sender, permit, ends)
return as_started(id, record)
