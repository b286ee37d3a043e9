-- permit(sender) = ARGV[3]
-- Leave for one call that is no job's: a permit that counts from now.
-- Returns  {ms to wait, 0 when the permit is taken}
-- Cost     O(log n), n permits of a window.

local sender = ARGV[3]
local at = full_until(sender, false, 0)
if at then return {int(math.max(at - now, 1))} end
take_permit(sender, 'chore/' .. redis.call('HINCRBY', base .. 'counts', 'chores', 1), now)
return {'0'}
