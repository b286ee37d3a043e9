-- cancel(job id) = ARGV[3]
-- A job that is not at DingTalk yet is ended; its permit goes back. What a job left at DingTalk can be taken back from
-- there for a day, and its todo for ever: that takes a job of its own.
-- Returns  {"cancelled", calls} | {"recall", state} | {"too late", state} | {"gone"}
-- Cost     O(log n), n jobs waiting in the lane.

local id = ARGV[3]
local record = redis.call('HMGET', base .. 'job:' .. id, 'state', 'destination', 'sender', 'grant', 'step', 'notes', 'ended_ms')
local state, destination = record[1], record[2]
if not state then return {'gone'} end
if (state == 'delivered' or state == 'accepted') and record[6] then
  local notes = cjson.decode(record[6])
  if notes.todo or notes.recall and now - tonumber(record[7]) < DAY_MS then return {'recall', state} end
end
-- After a first part has been seen, the rest belongs to it.
if state ~= 'waiting' and state ~= 'called' or tonumber(record[5] or 0) > 0 then return {'too late', state} end
if state == 'called' then give_permit_back(record[3], id, record[4]) end
finish(id, 'cancelled', 'cancelled', 'cancelled before it was sent')
look(destination, MOST_CALLS)
take_turns()
return {'cancelled', calls}
