-- Calls come in. ARGV: generation, number of this step, what has been heard ('' for no answer about that), and for each
-- call its size and the call. A step that was done before is not done again: its answer had got lost.
if is_other(ARGV[1]) then
  return other_generation()
end
if number(client, 'seq') < tonumber(ARGV[2]) then
  local first, count, bytes, at = number(account, 'next_id'), 0, 0, string.format('%.6f', now())
  for i = 4, #ARGV, 2 do
    redis.call('XADD', log, entry(first + count), 'c', ARGV[i + 1], 's', ARGV[i], 't', at)
    count, bytes = count + 1, bytes + tonumber(ARGV[i])
  end
  add('next_id', count)
  add('accepted', count)
  add('bytes', bytes)
  publish({})
  redis.call('HSET', client, 'seq', ARGV[2], 'first', string.format('%.0f', first))
  redis.call('EXPIRE', client, CLIENT)
end
return {redis.call('HGET', client, 'first'), ARGV[3] ~= '' and state(ARGV[3])}
