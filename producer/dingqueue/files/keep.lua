-- keep(sha256, size in bytes, size of a chunk, keep_ms) = ARGV[3..6]
-- Is the whole file there? Then every chunk of it lives at least keep_ms from now; none lives shorter than it did.
-- file:<sha256>:<chunk size>:<n>  string  a chunk; the same content under the same name, whoever wrote it
-- Returns  {"kept"} | {"missing"}
-- Cost     O(chunks), at most 40.

local key = ARGV[1] .. 'file:' .. ARGV[3] .. ':' .. ARGV[5] .. ':'
local size, chunk, keep_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local chunks = math.ceil(size / chunk)
for n = 0, chunks - 1 do
  if redis.call('STRLEN', key .. n) ~= math.min(chunk, size - n * chunk) then return {'missing'} end
end
for n = 0, chunks - 1 do
  if redis.call('PTTL', key .. n) < keep_ms then redis.call('PEXPIRE', key .. n, ARGV[6]) end
end
return {'kept'}
