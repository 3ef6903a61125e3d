-- Calls, and what is noted of them. ARGV: generation, first id, last id, how many at most. Gives for each call its entry's
-- name, the call, and when it was put; the ids of those that were sent; and the parts that were told.
if is_other(ARGV[1]) then
  return other_generation()
end
local entries = redis.call('XRANGE', log, ARGV[2] .. '-1', ARGV[3] .. '-1', 'COUNT', ARGV[4])
if #entries == 0 then
  return {entries, {}, {}}
end
local first, last = id_of(entries[1][1]), id_of(entries[#entries][1])
local flat = {}
for i, one in ipairs(entries) do -- a client takes three times as long to read what is nested
  flat[3 * i - 2], flat[3 * i - 1], flat[3 * i] = one[1], one[2][2] or '', one[2][6] or '0'
end
return {flat, redis.call('ZRANGEBYSCORE', sent, first, last), redis.call('ZRANGEBYSCORE', parts, first, last)}
