-- media_claim(key, holder, lease_ms) = ARGV[3..5]
-- media:<key>          string  the media id of an upload
-- media:<key>:claim    string  who uploads it (or fetches it first)
-- The upload's media id, or leave to make it, alone in the fleet.
-- Returns  {"there", media id} | {"claimed"} | {"busy", ms until the claim ends}

local media, claim = base .. 'media:' .. ARGV[3], base .. 'media:' .. ARGV[3] .. ':claim'
local id = redis.call('GET', media)
if id then return {'there', id} end
if redis.call('SET', claim, ARGV[4], 'NX', 'PX', ARGV[5]) then return {'claimed'} end
return {'busy', redis.call('PTTL', claim)}
