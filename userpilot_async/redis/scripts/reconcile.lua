-- Is there what the account says? For a sender that has read so far, and has nothing in hand. ARGV: generation, its
-- lease, the id up to which it has read. Gives how many calls are missing, and the first one that is to be read again.
if is_other(ARGV[1]) then
  return other_generation()
end
if not leads(ARGV[2]) then
  return {0, false}
end
local counts, waiting = redis.call('HGETALL', account), 0
for i = 1, #counts, 2 do
  local name, count = counts[i], tonumber(counts[i + 1])
  if name == 'accepted' then
    waiting = waiting + count
  elseif name == 'delivered' or name == 'merged' or string.find(name, '^dead:') or string.find(name, '^dropped:') then
    waiting = waiting - count
  end
end
local there = redis.call('XLEN', log)
local missing = math.max(0, waiting - there)
add('dead:damaged', missing)
if there == 0 then
  add('bytes', -number(account, 'bytes'))
end
if missing > 0 then
  publish({})
end
local first = redis.call('XRANGE', log, '-', '(' .. ARGV[3] .. '-1', 'COUNT', 1)[1]
return {missing, first and first[1] or false}
