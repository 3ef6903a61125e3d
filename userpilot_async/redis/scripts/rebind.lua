-- Give the outbox to another account, if no process sends. ARGV: generation, destination, salt, fingerprint, a new
-- generation, how many ids a page of receipts has, and the version of all this. Gives who sends, or nothing. All who
-- have it open are asked again whose they are.
if is_other(ARGV[1]) then
  return other_generation()
end
local holder = redis.call('GET', lease)
if not holder then
  if redis.call('HGET', about, 'destination') ~= ARGV[2] then
    redis.call('DEL', paired) -- of another server's people
  end
  redis.call('HSET', about, 'version', ARGV[7], 'destination', ARGV[2], 'salt', ARGV[3], 'fingerprint', ARGV[4])
  begin(ARGV[5], tonumber(ARGV[6]))
end
return holder
