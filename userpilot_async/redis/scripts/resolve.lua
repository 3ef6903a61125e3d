-- Was this step done, whose answer got lost? ARGV: generation, its number, that of the last one that was made before, and
-- the places of calls in it that no caller waits for any more: they are taken back, as if they had never been put. Not done,
-- it will not be done any more, even if it still arrives. Gives what `write` would have given first, or false.
local function take_back(id)
  local found = redis.call('XRANGE', log, entry(id), entry(id))[1]
  local digest = found and digest_in(found[2])
  if digest then
    local known, rest = accepted_with(digest)
    if known == id and rest == '+' then -- others were told that it is accepted: it stays
      return
    elseif known == id then
      redis.call('DEL', dedupe .. ':' .. digest)
    end
  end
  local _, count = erase({{id, id}})
  add('accepted', -count)
end

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
local first, repeated = number(client, 'put'), cjson.decode(redis.call('HGET', client, 'repeated') or '[]')
for i = 4, #ARGV do
  local place, repeats, before = tonumber(ARGV[i]), 0, 0
  for _, one in ipairs(repeated) do
    if one[1] == place then
      repeats = 1
    elseif one[1] < place then
      before = before + 1
    end
  end
  add('duplicates', -repeats)
  if repeats == 0 then
    take_back(first + place - before)
  end
end
publish({})
return {first, number(client, 'refused'), number(client, 'fenced'), repeated}
