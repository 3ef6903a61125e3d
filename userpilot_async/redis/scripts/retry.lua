-- Lost calls wait again, behind all others, as old as they are. ARGV: generation, and their entries. Gives the first
-- id, and how many they are: those that are still kept.
if is_other(ARGV[1]) then
  return other_generation()
end
local first, count, bytes = next_id(), 0, 0
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
  end
end
if count > 0 then
  add('next_id', count)
  add('accepted', count)
  add('bytes', bytes)
  publish({})
end
return {first, count}
