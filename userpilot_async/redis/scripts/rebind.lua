-- Give the outbox to another account, if nobody sends. ARGV: generation, destination, salt, fingerprint. Gives who
-- sends, or nothing.
if is_other(ARGV[1]) then
  return other_generation()
end
local holder = redis.call('GET', lease)
if not holder then
  redis.call('HSET', about, 'destination', ARGV[2], 'salt', ARGV[3], 'fingerprint', ARGV[4])
end
return holder
