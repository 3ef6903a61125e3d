-- Find, or begin, an outbox. ARGV: the generation that the caller knows ('' for none), the last revision it has heard
-- of, the last lease it had ('' for none), the server's run id, a new generation, the version of all this, destination, salt
-- and fingerprint ('' until they are asked for, since they take a moment to make), '1' to give it to these, or the salt that
-- they are to replace, how many ids a page of receipts has, what has been heard, how many calls the caller knows to be
-- ambiguous, from which of its steps on it knows what it sent ('' for none), its last step, and the generations that it
-- knew before.
--
-- A generation lasts until the server starts again, or everything is gone, or older than it was: then calls may be
-- missing. A client that remembers a later revision than was there when the next generation began knows that they are.
local generation, revision, token, run_id, new = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local there, outcome, at, explains, since = redis.call('HGET', about, 'generation'), 'same', 0, 0, 0
local set_back = is_set_back(ARGV[15])

if there and tonumber(redis.call('HGET', about, 'version')) > tonumber(ARGV[6]) then
  return redis.error_reply('VERSION ' .. redis.call('HGET', about, 'version'))
end
if not there and redis.call('EXISTS', account, log) > 0 and ARGV[10] ~= '1' then
  return redis.error_reply('OWNER')
end
if ARGV[8] == '' and (not there or ARGV[10] == '1') then
  return redis.error_reply('SALT')
end
if not there then
  redis.call('HSET', about, 'generation', new, 'run_id', run_id, 'version', ARGV[6],
             'destination', ARGV[7], 'salt', ARGV[8], 'fingerprint', ARGV[9])
  there = new
elseif redis.call('HGET', about, 'run_id') ~= run_id
    or (generation == there and (set_back or revision > number(account, 'revision'))) then
  local by_hand = redis.call('HGET', about, 'run_id') == run_id -- and keys may not go together
  begin(new, tonumber(ARGV[11]))
  if by_hand then
    redis.call('DEL', news)
    redis.call('HDEL', account, 'news_bytes')
    redis.call('HSET', about, 'sender_then', token) -- who has sent since does not know what went before
  end
  redis.call('HSET', about, 'run_id', run_id, 'unknown_until', string.format('%.6f', now() + LOST_TOKEN),
             'doubt', redis.call('HGET', about, 'begun_at'), 'retried_until', string.format('%.0f', now() * 1000))
  there = new
end
if ARGV[10] == '1' or ARGV[10] == redis.call('HGET', about, 'salt') then
  if redis.call('HGET', about, 'destination') ~= ARGV[7] then
    redis.call('DEL', paired) -- of another server's people
  end
  redis.call('HSET', about, 'version', ARGV[6], 'destination', ARGV[7], 'salt', ARGV[8], 'fingerprint', ARGV[9])
end
if generation ~= '' and generation ~= there then
  local ended, ambiguous = redis.call('HGET', about, 'ended:' .. generation), 0
  outcome = 'lost'
  if ended and not set_back and revision <= tonumber(string.match(ended, '^%d+')) then
    outcome = 'kept'
  end
  for i = 16, #ARGV do -- set back to before the last generation that the caller knows
    ended = ended or redis.call('HGET', about, 'ended:' .. ARGV[i])
  end
  if ended then
    at, ambiguous = string.match(ended, '^%d+ (%d+) ?(%d*)$') -- version 1 did not note how many were ambiguous
    at, ambiguous = tonumber(at), tonumber(ambiguous) or 0
  end
  local last_to_send = token ~= '' and redis.call('HGET', about, 'sender_then') == token
  if outcome == 'kept' and last_to_send then
    -- The last sender has noted each request: none is missing.
    redis.call('HSET', about, 'unknown_until', redis.call('HGET', about, 'unknown_before') or '',
               'doubt', redis.call('HGET', about, 'doubt_before') or '',
               'retried_until', redis.call('HGET', about, 'retried_before') or '')
  elseif outcome == 'lost' then
    redis.call('HSET', about, 'lost_in', there)
    if redis.call('HSETNX', about, 'lost:' .. generation, string.format('%.0f', ambiguous)) == 1 then
      redis.call('HSET', about, 'unknown_until', string.format('%.6f', now() + LOST_TOKEN))
    end
    -- What was counted until then, and is not any more: by the client that knows most of it.
    local counted = number(about, 'lost:' .. generation)
    if tonumber(ARGV[13]) > counted then
      add('ambiguous', tonumber(ARGV[13]) - counted)
      redis.call('HSET', about, 'lost:' .. generation, ARGV[13])
    end
    local fence, fence_then = string.match(token, '^%d+'), string.match(redis.call('HGET', about, 'sender_then') or '', '^%d+')
    if last_to_send and ARGV[14] ~= '' and tonumber(ARGV[14]) <= number(client, 'seq') then
      explains, since = 1, number(client, 'seq')
    elseif fence and tonumber(fence) > tonumber(fence_then or '0') then
      -- A later sender than the last that is known here: no other client's word is enough any more.
      add('ambiguous', number(about, 'resent'))
      redis.call('HSET', about, 'doubt', redis.call('HGET', about, 'begun_at') or '', 'resent', '0', 'sender_then', token)
    end
  end
end
-- Who is new here, or has to forget what it knew, begins with what comes now.
local news_from = (generation == '' or outcome == 'lost') and string.format('%.0f', number(account, 'revision')) or ARGV[12]
return {there, outcome, at, explains, since, redis.call('HMGET', about, 'destination', 'salt', 'fingerprint'),
        redis.call('HGET', about, 'version'), state(news_from)}
