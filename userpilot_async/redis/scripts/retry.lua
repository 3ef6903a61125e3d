-- Lost calls wait again, behind all others, as old as they are. ARGV: generation, and their entries. Gives the first
-- id, and how many they are: those that are still kept. Where the data may have been set back since they were lost, they
-- may have been tried again, and sent, before.
if is_other(ARGV[1]) then
  return other_generation()
end
local first, count, bytes, ambiguous = next_id(), 0, 0, 0
local retried_until = number(about, 'retried_until')
if not first then
  return foreign()
end
for i = 2, #ARGV do
  local kept = redis.call('XRANGE', lost, ARGV[i], ARGV[i])
  if #kept > 0 then
    local fields = kept[1][2]
    redis.call('XADD', log, entry(first + count), 'c', fields[4], 's', fields[6], 't', fields[8])
    count, bytes = count + 1, bytes + tonumber(fields[6])
    dig_up(kept)
    if id_of(kept[1][1]) <= retried_until then
      ambiguous = ambiguous + 1
    end
  end
end
if count > 0 then
  add('next_id', count)
  add('accepted', count)
  add('bytes', bytes)
  add('ambiguous', ambiguous)
  publish({})
end
return {first, count}
