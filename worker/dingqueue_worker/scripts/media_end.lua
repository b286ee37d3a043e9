-- media_end(key of the claim, holder, key of the upload, media id or "", keep_ms) = ARGV[3..7]
-- Keeps an upload's media id, if there is one, and gives up the claim, if it is still the holder's.
-- Returns  {}

local claim = base .. 'media:' .. ARGV[3] .. ':claim'
if ARGV[6] ~= '' then redis.call('SET', base .. 'media:' .. ARGV[5], ARGV[6], 'PX', ARGV[7]) end
if redis.call('GET', claim) == ARGV[4] then redis.call('DEL', claim) end
return {}
