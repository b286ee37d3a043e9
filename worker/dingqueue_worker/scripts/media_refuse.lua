-- media_refuse(key, media id, count_ms) = ARGV[3..5]
-- media:<key>:refused  string  how many uploads of it DingTalk has refused to send, lately
-- Forgets this very media id; a newer one is not touched, and not counted.
-- Returns  {"forgotten", refusals so far} | {"newer"}

local media, refused = base .. 'media:' .. ARGV[3], base .. 'media:' .. ARGV[3] .. ':refused'
local id = redis.call('GET', media)
if id and id ~= ARGV[4] then return {'newer'} end
redis.call('DEL', media)
local count = redis.call('INCR', refused)
redis.call('PEXPIRE', refused, ARGV[5])
return {'forgotten', count}
