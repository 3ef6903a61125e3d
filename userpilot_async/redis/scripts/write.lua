-- One step of what a client writes: calls come in, and the sender notes what became of calls, and what it is about to do.
-- ARGV: generation, the number of the step, what has been heard ('' for no answer about that), the sender's lease, before
-- when lost calls are forgotten (ms), notes as JSON ('' for none; with them, the pairs that the calls name), the client's step before, and for each call its size and
-- the call.
--
-- A client makes one step after the other, and knows what became of one before it makes the next (see `resolve`).
-- Without the lease, nothing is noted but calls that found no room: who has lost it changes nothing.
if is_other(ARGV[1]) or is_set_back(ARGV[7]) then
  return other_generation()
end
if number(client, 'seq') >= tonumber(ARGV[2]) then
  return false -- it comes late: no caller waits for it any more
end
redis.call('HSET', client, 'began', ARGV[2]) -- Redis 6 out of memory refuses this, and not a later half

local said, forgotten, fenced = {}, 0, 0
local notes = ARGV[6] ~= '' and cjson.decode(ARGV[6]) or {refused = {}}
local first = next_id()
if not first then
  return foreign()
end

-- What may fail comes before the calls: nothing is undone, and made again a note changes nothing, but a call would be
-- there twice.
if ARGV[6] ~= '' then
  if not leads(ARGV[4]) then
    fenced = 1
  else
    for _, part in ipairs(notes.parts) do
      if #redis.call('XRANGE', log, entry(part[1]), entry(part[1])) > 0 then
        redis.call('ZADD', parts, part[1], part[2])
      end
    end
    for _, one in ipairs(notes.settled) do
      local status, label, keep = one[1], one[2], nil
      if status ~= 'delivered' then
        keep = label ~= 'deleted' and bury(status, label, one[5])
      end
      local ending = status .. ' ' .. (label == cjson.null and '' or label)
      local carriers, of_carriers = erase(one[3], keep, ending)
      local merged, of_merged = erase(one[4], keep, ending)
      conclude(said, status, label, carriers, of_carriers, merged, of_merged)
      if keep then
        forgotten = forgotten + forget(ARGV[5])
      end
    end
    local doubt, begun_at = number(about, 'doubt'), number(about, 'begun_at')
    for _, one in ipairs(notes.begun) do
      for _, stretches in ipairs({one[3], one[7]}) do
        add('ambiguous', count_again(stretches, doubt))
        if begun_at > doubt then -- perhaps a client is still to come that knows better
          redis.call('HINCRBY', about, 'resent', string.format('%.0f', count_again(stretches, begun_at)))
        end
      end
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
end

keep_pairs(notes.pairs or {})
local count, bytes, at, keys, repeated = 0, 0, string.format('%.6f', now()), {}, {}
for _, one in ipairs(notes.keys or {}) do
  keys[8 + 2 * one[1]] = one
end
for i = 8, #ARGV, 2 do
  local key, known, rest = keys[i], nil, nil
  if key then
    known, rest = accepted_with(key[2])
  end
  if known then -- an earlier call tells the same: this one is none
    if string.sub(rest, 1, 1) == ' ' then
      rest = string.sub(rest, 2)
    elseif #redis.call('XRANGE', log, entry(known), entry(known)) > 0 then
      note_of_key(key[2], known, '+')
      rest = ''
    else
      rest = 'dropped unknown'
    end
    repeated[#repeated + 1] = {key[1], known, rest}
  else
    if key then
      redis.call('XADD', log, entry(first + count), 'c', ARGV[i + 1], 's', ARGV[i], 't', at, 'd', key[2])
      redis.call('SET', dedupe .. ':' .. key[2], string.format('%.0f', first + count), 'PX', key[3])
    else
      redis.call('XADD', log, entry(first + count), 'c', ARGV[i + 1], 's', ARGV[i], 't', at)
    end
    count, bytes = count + 1, bytes + tonumber(ARGV[i])
  end
end
add('bytes', bytes)
add('duplicates', #repeated)
if redis.call('HGET', about, 'lost_in') or number(about, 'doubt') >= number(about, 'begun_at') then
  add('ambiguous', notes.again or 0) -- unless this data is known to have all that was ever held
end
local refused = first + count
for _, one in ipairs(notes.refused) do
  local id = first + count
  conclude(said, one[1], one[2], {{id, id + one[3] - 1}}, one[3], {}, 0)
  count = count + one[3]
end
redis.call('HSET', account, 'next_id', string.format('%.0f', first + count))
add('accepted', count)
publish(said)
redis.call('HSET', client, 'seq', ARGV[2], 'put', string.format('%.0f', first),
           'refused', string.format('%.0f', refused), 'fenced', fenced,
           'repeated', #repeated > 0 and cjson.encode(repeated) or '[]')
redis.call('EXPIRE', client, CLIENT)
return {first, refused, fenced, forgotten, ARGV[3] ~= '' and state(ARGV[3]), repeated}
