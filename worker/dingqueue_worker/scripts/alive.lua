-- alive(who) = ARGV[3]
-- A process that asks for nothing else says that it is there.
-- Returns  {}
-- Cost     O(log n), n processes.

sign(ARGV[3])
return {}
