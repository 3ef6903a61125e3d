-- Every script begins with this: the names of the keys, and what several of them do. A script is one step for all
-- others: none sees half of it. Ids of calls are numbers; call 7 is the entry 7-1 of the log.
local asked = table.remove(ARGV) -- the number of the question, which the answer says again
local about, account, log, news, lease, requests, spent, files, sent, again, parts, lost, paired, dedupe, client = unpack(KEYS)

local KEPT_NEWS = 20000 -- steps with settled calls that are remembered for the others
local MAX_NEWS_BYTES = 32 * 1024 * 1024
local NEWS_AT_ONCE, NEWS_BYTES_AT_ONCE = 200, 256 * 1024 -- in one answer
local MAX_LOST, MAX_LOST_BYTES = 100000, 64 * 1024 * 1024 -- dead and dropped calls kept: the newest
local MAX_PAIRS = 100000 -- pairs of keys kept: the newest
local TOKEN, LOST_TOKEN = 60, 90 -- seconds until a token comes back; longer without an answer
local MAX_FOREIGN = 100000
local CLIENT = 7 * 86400 -- seconds for which is known what a client has put last

local function now() -- by the clock of the server
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or '0') or 0
end

local function entry(id)
  return string.format('%.0f-1', id)
end

local function id_of(entry)
  return tonumber(string.match(entry, '^%d+'))
end


local function add(field, count)
  if count ~= 0 then
    redis.call('HINCRBY', account, field, string.format('%.0f', count))
  end
end

-- The next id. Where another program has put entries into the log, behind those: they count as accepted calls, which
-- cannot be read. Not where that would be very many: then there is none.
local function next_id()
  local first = number(account, 'next_id')
  local info = redis.pcall('XINFO', 'STREAM', log)
  for i = 1, #info, 2 do
    local last = info[i] == 'last-generated-id' and id_of(info[i + 1])
    if last and last >= first + MAX_FOREIGN then
      return nil
    elseif last and last >= first then
      add('accepted', #redis.call('XRANGE', log, entry(first), '+'))
      redis.call('HSET', account, 'next_id', string.format('%.0f', last + 1))
      return last + 1
    end
  end
  return first
end

local function foreign()
  return redis.error_reply("FOREIGN the log has entries of another program: delete those, and go on")
end

local function is_other(generation)
  return redis.call('HGET', about, 'generation') ~= generation
end

-- The caller knows that this step of its own was made, and it is not there any more: older data was put in the place of
-- what was there. Not asked ('' or nil) by who makes none, or so long after it that it may have been forgotten.
local function is_set_back(made)
  return made and made ~= '' and number(client, 'seq') < tonumber(made)
end

local function other_generation()
  return redis.error_reply('GENERATION this is not what was here before')
end

local function leads(token)
  local value = redis.call('GET', lease)
  return token ~= '' and value and string.sub(value, 1, #token + 1) == token .. ' '
end

-- End the generation, and begin another one, whose ids begin a page of their own (`begun_at`). What is known of requests
-- of which nothing is noted (until when tokens may be spent by them, which calls may have been in them, and up to when the
-- lost ones may have been tried again) is remembered as it was: a client that knows that none was made since sets it back.
local function begin(generation, page)
  local next_id = number(account, 'next_id')
  local begun_at = string.format('%.0f', math.ceil(next_id / page) * page)
  redis.call('HSET', about, 'unknown_before', redis.call('HGET', about, 'unknown_until') or '',
             'doubt_before', redis.call('HGET', about, 'doubt') or '',
             'retried_before', redis.call('HGET', about, 'retried_until') or '',
             'ended:' .. redis.call('HGET', about, 'generation'),
             string.format('%.0f %.0f %.0f', number(account, 'revision'), next_id, number(account, 'ambiguous')),
             'generation', generation, 'begun_at', begun_at, 'sender_then', redis.call('HGET', about, 'sender') or '',
             'resent', '0')
  redis.call('HDEL', about, 'lost_in')
  redis.call('DEL', again) -- not UNLINK: users of Redis who were made for an earlier version may not say so
  redis.call('HSET', account, 'next_id', begun_at)
end

-- The account, the first call that is held, what became of calls since `heard`, the time, and how far that has been heard.
local function state(heard)
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  local found = redis.call('XRANGE', news, '(' .. heard .. '-1', '+', 'COUNT', NEWS_AT_ONCE)
  local texts, bytes, reached = {}, 0, redis.call('HGET', account, 'revision') or '0'
  for i, one in ipairs(found) do
    if i > 1 and bytes + #one[2][2] > NEWS_BYTES_AT_ONCE then
      break
    end
    texts[i], bytes = one[2][2], bytes + #one[2][2]
  end
  if #texts < #found or #found == NEWS_AT_ONCE then
    reached = string.match(found[#texts][1], '^%d+')
  end
  return {redis.call('HGETALL', account), first and first[1] or false, texts, string.format('%.6f', now()), reached}
end

local function conclude(said, status, label, carriers, of_carriers, merged, of_merged)
  if of_carriers == 0 and of_merged == 0 then
    return
  end
  if status == 'delivered' then
    add('delivered', of_carriers)
    if label ~= cjson.null then
      add('by:' .. label, of_carriers)
    end
  else
    add(status .. ':' .. label, of_carriers)
    add('merged_lost', of_merged)
  end
  add('merged', of_merged)
  said[#said + 1] = {status, label, carriers, merged}
end

-- Tell everybody what became of calls; each step that writes has a number of its own.
local function publish(said)
  local revision = redis.call('HINCRBY', account, 'revision', 1)
  if #said == 0 then
    return
  end
  local text = cjson.encode(said)
  redis.call('XADD', news, entry(revision), 's', text)
  add('news_bytes', #text)
  while redis.call('XLEN', news) > KEPT_NEWS or number(account, 'news_bytes') > MAX_NEWS_BYTES do
    local oldest = redis.call('XRANGE', news, '-', '+', 'COUNT', 10)
    if #oldest < 2 then
      redis.call('HSET', account, 'news_bytes', oldest[1] and #oldest[1][2][2] or 0)
      break
    end
    for i = 1, #oldest - 1 do
      redis.call('XDEL', news, oldest[i][1])
      add('news_bytes', -#oldest[i][2][2])
    end
  end
end

-- Keys of `dedupe=` (hashes) expire by themselves: '{name}:dedupe:hash' is the id of the call that has it, 'id+' once another
-- caller was told of that call, and 'id status label' once it is settled. An entry of the log names its hash as 'd'.
-- Gives the id and the rest; nothing where no call has it, or another program has put something else there.
local function accepted_with(digest)
  local value = redis.pcall('GET', dedupe .. ':' .. digest)
  local id, rest = string.match(type(value) == 'string' and value or '', '^(%d+)(.*)$')
  return tonumber(id), rest
end

-- Note something about the call with this key, for as long as the key is there.
local function note_of_key(digest, id, rest)
  if accepted_with(digest) == id then -- or it has expired, and another call may have it
    redis.call('SET', dedupe .. ':' .. digest, string.format('%.0f', id) .. rest, 'KEEPTTL')
  end
end

local function digest_in(fields)
  return fields[7] == 'd' and fields[8] or nil
end

-- Take calls out of the log, those that are there: which (a number, or the first and the last of a stretch), how many, how
-- many bytes. `keep` is shown each of them. `ending` (a status and a label) is noted of those that have a key.
local function erase(stretches, keep, ending)
  local there, count, size = {}, 0, 0
  for _, stretch in ipairs(stretches) do
    local from, last = string.format('%.0f', stretch[1]), string.format('%.0f', stretch[2])
    repeat
      local entries = redis.call('XRANGE', log, from, last, 'COUNT', 500)
      local names = {}
      for i, one in ipairs(entries) do
        local id, before = id_of(one[1]), there[#there]
        local from_id = type(before) == 'table' and before[1] or before
        local to_id = type(before) == 'table' and before[2] or before
        names[i] = one[1]
        size = size + (tonumber(one[2][4]) or 0)
        if to_id == id - 1 then
          there[#there] = {from_id, id}
        else
          there[#there + 1] = id
        end
        if keep then
          keep(id, one[2])
        end
        if ending and digest_in(one[2]) then
          note_of_key(digest_in(one[2]), id, ' ' .. ending)
        end
      end
      if #names > 0 then
        redis.call('XDEL', log, unpack(names))
        count = count + #names
        from = '(' .. names[#names]
      end
    until #entries < 500
    redis.call('ZREMRANGEBYSCORE', sent, stretch[1], stretch[2])
    redis.call('ZREMRANGEBYSCORE', again, stretch[1], stretch[2])
    redis.call('ZREMRANGEBYSCORE', parts, stretch[1], stretch[2])
  end
  add('bytes', -size)
  return there, count, size
end

-- The server may have these calls; how many of them still wait.
local function mark_sent(stretches)
  local marked = 0
  for _, stretch in ipairs(stretches) do
    for _, one in ipairs(redis.call('XRANGE', log, entry(stretch[1]), entry(stretch[2]))) do
      local id = id_of(one[1])
      redis.call('ZADD', sent, id, id)
      marked = marked + 1
    end
  end
  return marked
end

-- How many of these calls, those below an id, are about to be sent for the first time since they were held by data that
-- may have been set back: it does not know whether they were sent before.
local function count_again(stretches, below)
  local count = 0
  for _, stretch in ipairs(stretches) do
    if stretch[1] < below then
      for _, one in ipairs(redis.call('XRANGE', log, entry(stretch[1]), entry(math.min(stretch[2], below - 1)))) do
        local id = id_of(one[1])
        count = count + redis.call('ZADD', again, id, string.format('%.0f:%.0f', below, id))
      end
    end
  end
  return count
end

-- Keep calls that were lost, for as long as there is room for them.
local function bury(status, reason, detail)
  local at = string.format('%.6f', now())
  return function(id, fields)
    redis.call('XADD', lost, '*', 'i', string.format('%.0f', id), 'c', fields[2] or '', 's', fields[4] or '0',
               't', fields[6] or '0', 'l', at, 'u', status, 'r', reason, 'd', detail)
    add('lost_bytes', tonumber(fields[4]) or 0)
  end
end

local function dig_up(entries)
  for _, one in ipairs(entries) do
    redis.call('XDEL', lost, one[1])
    add('lost_bytes', -(tonumber(one[2][6]) or 0))
  end
  return #entries
end

-- Keep pairs of keys that calls name together, in their order: the first one that a key is in counts.
local function keep_pairs(named)
  for _, pair in ipairs(named) do
    local last = number(account, 'pairs') + 1
    if redis.call('ZADD', paired, 'NX', string.format('%.0f', last), pair) == 1 then
      add('pairs', 1)
      redis.call('ZREMRANGEBYSCORE', paired, '-inf', string.format('%.0f', last - MAX_PAIRS))
    end
  end
end

-- Forget those that were lost too long ago, or are too many.
local function forget(oldest)
  local forgotten = dig_up(redis.call('XRANGE', lost, '-', oldest, 'COUNT', 1000))
  while redis.call('XLEN', lost) > MAX_LOST or number(account, 'lost_bytes') > MAX_LOST_BYTES do
    local dug = dig_up(redis.call('XRANGE', lost, '-', '+', 'COUNT', 100))
    if dug == 0 then -- another program has deleted them
      add('lost_bytes', -number(account, 'lost_bytes'))
    end
    forgotten = forgotten + dug
  end
  add('forgotten', forgotten)
  return forgotten
end
