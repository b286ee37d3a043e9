-- quota(quota's name, calls a month, mark %, mark %, ...) = ARGV[3..4], ARGV[5..]
-- How much of a month is used; each mark that it has passed is told once a month (event "quota").
-- Returns  {used, events}
-- Cost     O(marks).

local name, most = ARGV[3], tonumber(ARGV[4])
local of = month()
local used = tonumber(redis.call('GET', base .. 'sender:' .. name .. ':' .. of) or 0)
local told = base .. 'quota_told:' .. name .. ':' .. of
local highest = 0
for i = 5, #ARGV do
  local mark = tonumber(ARGV[i])
  if used * 100 >= mark * most and redis.call('SADD', told, ARGV[i]) == 1 then highest = math.max(highest, mark) end
end
redis.call('PEXPIRE', told, 40 * DAY_MS)
if highest > 0 then
  events[1] = 'quota'
  events[2] = name
  events[3] = int(used) .. ' of this month\'s ' .. int(most) .. ' calls are used (' .. int(math.floor(used * 100 / most)) .. ' %)'
end
return {int(used), events}
