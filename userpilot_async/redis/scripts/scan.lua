-- Some entries of the log, or of the lost calls, for people. ARGV: generation, 'log' or 'lost', behind which entry (''
-- for the first ones), up to which one, how many at most, and texts: then only calls in which one of them stands, and
-- damaged ones. Gives the last entry it has seen, whether there may be more, and those.
if is_other(ARGV[1]) then
  return other_generation()
end
local key, call, reason = log, 2, 0
if ARGV[2] == 'lost' then
  key, call, reason = lost, 4, 14
end
local entries = redis.call('XRANGE', key, ARGV[3] == '' and '-' or '(' .. ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local wanted = {}
for _, one in ipairs(entries) do
  local is_wanted = #ARGV == 5 or one[2][reason] == 'damaged'
  for i = 6, #ARGV do
    is_wanted = is_wanted or string.find(one[2][call] or '', ARGV[i], 1, true)
  end
  if is_wanted then
    wanted[#wanted + 1] = one
  end
end
return {#entries > 0 and entries[#entries][1] or ARGV[3], #entries == tonumber(ARGV[5]) and 1 or 0, wanted}
