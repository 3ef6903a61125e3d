-- Erase calls, as if they had no owner. ARGV: generation, 'log' and stretches of ids (JSON), or 'lost' and entries, or
-- 'pairs' and numbers of those.
-- Gives how many were there. Those that waited are dropped, and everybody hears of it.
if is_other(ARGV[1]) then
  return other_generation()
end
if ARGV[2] == 'log' then
  local said = {}
  local there, count = erase(cjson.decode(ARGV[3]), nil, 'dropped purged')
  conclude(said, 'dropped', 'purged', there, count, {}, 0)
  if count > 0 then
    publish(said)
  end
  return count
end
local count = 0
for i = 3, #ARGV do
  if ARGV[2] == 'pairs' then
    count = count + redis.call('ZREMRANGEBYSCORE', paired, ARGV[i], ARGV[i])
  else
    count = count + dig_up(redis.call('XRANGE', lost, ARGV[i], ARGV[i]))
  end
end
return count
