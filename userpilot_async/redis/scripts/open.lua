-- Find, or begin, an outbox. ARGV: the generation that the caller knows ('' for none), the last revision it has heard
-- of, the last lease it had ('' for none), the server's run id, a new generation, the version of all this, destination, salt
-- and fingerprint ('' until they are asked for, since they take a moment to make), '1' to give it to these, or the salt that
-- they are to replace, how many ids a page of receipts has, what has been heard, and how many losses the caller knows of.
--
-- A generation lasts until the server starts again, or everything is gone, or older than it was: then calls may be
-- missing. Whoever remembers a later revision than was there when the next generation began knows that they are.
local generation, revision, token, run_id, new = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local there, fate, at = redis.call('HGET', about, 'generation'), 'same', 0

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
    or (generation == there and revision > number(account, 'revision')) then
  if redis.call('HGET', about, 'run_id') == run_id then -- somebody's hand: keys may not go together
    redis.call('DEL', news)
    redis.call('HDEL', account, 'news_bytes')
  end
  begin(new, tonumber(ARGV[11]))
  redis.call('HSET', about, 'run_id', run_id, 'unknown_until', string.format('%.6f', now() + LOST_TOKEN))
  there = new
end
if ARGV[10] == '1' or ARGV[10] == redis.call('HGET', about, 'salt') then
  redis.call('HSET', about, 'version', ARGV[6], 'destination', ARGV[7], 'salt', ARGV[8], 'fingerprint', ARGV[9])
end
if generation ~= '' and generation ~= there then
  local ended = redis.call('HGET', about, 'ended:' .. generation)
  local reached = 0
  if ended then
    reached, at = string.match(ended, '^(%d+) (%d+)$')
    reached, at = tonumber(reached), tonumber(at)
  end
  fate = (ended and revision <= reached) and 'kept' or 'lost'
  if fate == 'lost' and redis.call('HSETNX', about, 'lost:' .. generation, '1') == 1 then
    local before = math.max(number(account, 'resets'), tonumber(ARGV[13] or '0')) -- that count may be lost, too
    redis.call('HSET', account, 'resets', string.format('%.0f', before + 1))
    redis.call('HSET', about, 'unknown_until', string.format('%.6f', now() + LOST_TOKEN))
  elseif fate == 'kept' and string.match(token, '^%d+') == redis.call('HGET', about, 'fence') then
    -- Whoever was the last to send has noted each request: none is missing.
    redis.call('HSET', about, 'unknown_until', redis.call('HGET', about, 'unknown_before') or '')
  end
end
-- Who is new here, or has to forget what it knew, begins with what comes now.
local news_from = (generation == '' or fate == 'lost') and string.format('%.0f', number(account, 'revision')) or ARGV[12]
return {there, fate, at, redis.call('HMGET', about, 'destination', 'salt', 'fingerprint'),
        redis.call('HGET', about, 'version'), state(news_from)}
