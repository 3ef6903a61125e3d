-- Take the lease, or keep it. ARGV: generation, the token that the caller has ('' for none), its name, for how long (ms),
-- what others may know of it, and '1' if it may take one that is free. Gives the token that is the caller's now, or ''.
--
-- A token is a number that never comes again, and the name. The server's own clock ends a lease.
if is_other(ARGV[1]) then
  return other_generation()
end
if leads(ARGV[2]) then
  redis.call('PEXPIRE', lease, ARGV[4])
  return ARGV[2]
end
local held = redis.call('GET', lease)
local holder = held and string.match(held, '^%d+ (%S+)')
if ARGV[6] ~= '1' or (holder and holder ~= ARGV[3]) then -- what it held itself, and has given up, is free for it
  return ''
end
local fence = redis.call('HINCRBY', about, 'fence', 1)
local token = string.format('%.0f', fence) .. ' ' .. ARGV[3]
redis.call('HSET', about, 'sender', token)
redis.call('SET', lease, token .. ' ' .. ARGV[5], 'PX', ARGV[4])
return token
