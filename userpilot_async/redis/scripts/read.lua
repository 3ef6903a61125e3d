-- Calls, and what is noted of them. ARGV: generation, first id, last id, how many at most.
if is_other(ARGV[1]) then
  return other_generation()
end
local entries = redis.call('XRANGE', log, ARGV[2] .. '-1', ARGV[3] .. '-1', 'COUNT', ARGV[4])
if #entries == 0 then
  return {entries, {}, {}}
end
local first, last = id_of(entries[1][1]), id_of(entries[#entries][1])
return {entries, redis.call('ZRANGEBYSCORE', sent, first, last), redis.call('ZRANGEBYSCORE', parts, first, last)}
