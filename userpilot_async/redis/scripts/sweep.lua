-- Write the log, or the lost calls, anew: what was deleted stays in the blocks of a stream, and so in snapshots, until
-- all calls of its block are gone. ARGV: generation, 'log' or 'lost', how many entries and how many bytes at most: more
-- would take too long. Gives 1 if it was done.
if is_other(ARGV[1]) then
  return other_generation()
end
local key, bytes = log, number(account, 'bytes')
if ARGV[2] == 'lost' then
  key, bytes = lost, number(account, 'lost_bytes')
end
if redis.call('XLEN', key) > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4]) then
  return 0
end
local entries = redis.call('XRANGE', key, '-', '+')
redis.call('DEL', key)
for _, one in ipairs(entries) do
  redis.call('XADD', key, one[1], unpack(one[2]))
end
return 1
