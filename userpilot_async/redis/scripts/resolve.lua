-- Was this step done, whose answer got lost? ARGV: generation, its number, that of the last one that was made before, and
-- the places of calls in it that no caller waits for any more: they are taken back, as if they had never been put. Not done,
-- it will not be done any more, even if it still arrives. Gives what `write` would have given first, or false.
if is_other(ARGV[1]) or is_set_back(ARGV[3]) then
  return other_generation()
end
if number(client, 'seq') > tonumber(ARGV[2]) then
  return redis.error_reply('ORDER a later step was made before')
end
if number(client, 'seq') < tonumber(ARGV[2]) then
  redis.call('HSET', client, 'seq', ARGV[2], 'burnt', ARGV[2])
  redis.call('EXPIRE', client, CLIENT)
end
if redis.call('HGET', client, 'burnt') == ARGV[2] then
  return false
end
local first = number(client, 'put')
for i = 4, #ARGV do
  local id = first + tonumber(ARGV[i])
  local _, count = erase({{id, id}})
  add('accepted', -count)
end
publish({})
return {first, number(client, 'refused'), number(client, 'fenced')}
