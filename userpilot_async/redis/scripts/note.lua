-- What became of calls, and what the sender is about to do. ARGV: generation, number of this step, what has been heard
-- ('' for no answer about that), the sender's lease, before when lost calls are forgotten (ms), and all the rest as
-- JSON. Without the lease, only calls that found no room are noted: who has lost it changes nothing.
if is_other(ARGV[1]) then
  return other_generation()
end
local fenced = false
if number(client, 'seq') < tonumber(ARGV[2]) then
  local notes, said, forgotten = cjson.decode(ARGV[6]), {}, 0
  local first = number(account, 'next_id')
  for i, outcome in ipairs(notes.refused) do
    local id = first + i - 1
    conclude(said, outcome[1], outcome[2], {{id, id}}, 1, {}, 0)
  end
  add('next_id', #notes.refused)
  add('accepted', #notes.refused)
  fenced = not leads(ARGV[4])
  if not fenced then
    for _, part in ipairs(notes.parts) do
      if #redis.call('XRANGE', log, entry(part[1]), entry(part[1])) > 0 then
        redis.call('ZADD', parts, part[1], part[2])
      end
    end
    for _, one in ipairs(notes.settled) do
      local status, label, keep = one[1], one[2], nil
      if status ~= 'delivered' then
        keep = bury(status, label, one[5])
      end
      local carriers, of_carriers = erase(one[3], keep)
      local merged, of_merged = erase(one[4], keep)
      conclude(said, status, label, carriers, of_carriers, merged, of_merged)
      if keep then
        forgotten = forgotten + forget(ARGV[5])
      end
    end
    for _, one in ipairs(notes.begun) do
      redis.call('HSET', requests, one[1], cjson.encode({one[2], one[3]}))
      if one[4] ~= '' then
        redis.call('HSET', files, one[4], cjson.encode({one[5], one[6]}))
      end
    end
    for _, one in ipairs(notes.landed) do
      local there = redis.call('HDEL', requests, one[1])
      if one[3] ~= cjson.null and there == 1 then
        local back = now() + (one[3] and TOKEN or LOST_TOKEN)
        redis.call('ZADD', spent, string.format('%.6f', back), one[1] .. ' ' .. one[2])
        if not one[3] then
          add('ambiguous', one[4])
        end
      end
      mark_sent(one[5])
    end
    for _, filename in ipairs(notes.forgotten) do
      redis.call('HDEL', files, filename)
    end
    redis.call('ZREMRANGEBYSCORE', spent, '-inf', string.format('%.6f', now()))
  end
  publish(said)
  redis.call('HSET', client, 'seq', ARGV[2], 'refused', string.format('%.0f', first), 'forgotten', forgotten)
  redis.call('EXPIRE', client, CLIENT)
end
return {redis.call('HGET', client, 'refused'), fenced and 1 or 0, redis.call('HGET', client, 'forgotten'),
        ARGV[3] ~= '' and state(ARGV[3])}
