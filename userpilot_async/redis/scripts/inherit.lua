-- What the sender before has left. ARGV: generation, the token of the new one, what has been heard. Requests under way
-- become such that may have arrived: from now on, and not from when they were noted, because their sender may have been
-- stopped in between.
if is_other(ARGV[1]) then
  return other_generation()
end
if not leads(ARGV[2]) then
  return false
end
local held = redis.call('HGETALL', requests)
for i = 1, #held, 2 do
  local request = cjson.decode(held[i + 1])
  add('ambiguous', mark_sent(request[2]))
  redis.call('ZADD', spent, string.format('%.6f', now() + LOST_TOKEN), held[i] .. ' ' .. request[1])
end
redis.call('DEL', requests)
redis.call('ZREMRANGEBYSCORE', spent, '-inf', string.format('%.6f', now()))
publish({})
return {redis.call('ZRANGE', spent, 0, -1, 'WITHSCORES'), redis.call('HGETALL', files),
        redis.call('HGET', about, 'unknown_until'), state(ARGV[3])}
