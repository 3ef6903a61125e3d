-- Calls are gone that a client knew to be held. ARGV: generation, the one in which they were held, how many such
-- losses the client knows of, and what has been heard. All clients that report the same are counted once.
if is_other(ARGV[1]) then
  return other_generation()
end
if redis.call('HSETNX', about, 'reset:' .. ARGV[2], '1') == 1 then
  local before = math.max(number(account, 'resets'), tonumber(ARGV[3])) -- that count may be lost, too
  redis.call('HSET', account, 'resets', string.format('%.0f', before + 1))
  publish({})
end
return state(ARGV[4])
