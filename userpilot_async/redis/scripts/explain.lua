-- The data was set back, and its sender of then knows which requests it made since. ARGV: generation, the lease that it
-- had, stretches of calls in those requests (JSON), and '1' if that is all of them: then no other call is in doubt.
if is_other(ARGV[1]) then
  return other_generation()
end
local begun_at, stretches = number(about, 'begun_at'), {}
for _, stretch in ipairs(cjson.decode(ARGV[3])) do
  if stretch[1] < begun_at then -- ids from there on are given again, to others
    stretches[#stretches + 1] = {stretch[1], math.min(stretch[2], begun_at - 1)}
  end
end
mark_sent(stretches)
add('ambiguous', count_again(stretches, begun_at))
if ARGV[4] == '1' and redis.call('HGET', about, 'sender_then') == ARGV[2] then
  redis.call('HSET', about, 'doubt', redis.call('HGET', about, 'doubt_before') or '')
end
publish({})
return 1
