-- drop(job id) = ARGV[3]
-- Forgets a dead job for good.
-- Returns  {"dropped"} | {"not dead", state or "gone"}

local id = ARGV[3]
local record = redis.call('HMGET', base .. 'job:' .. id, 'state', 'destination', 'kind')
if record[1] ~= 'dead' then return {'not dead', record[1] or 'gone'} end
redis.call('ZREM', base .. 'dead', id)
redis.call('DEL', base .. 'job:' .. id, base .. 'body:' .. id)
count('dropped:' .. record[3] .. ':' .. record[2])
return {'dropped'}
