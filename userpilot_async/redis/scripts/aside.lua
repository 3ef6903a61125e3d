-- Calls that cannot be read are lost. ARGV: generation, the sender's lease, and their ids.
if is_other(ARGV[1]) then
  return other_generation()
end
if not leads(ARGV[2]) then
  return 0
end
next_id()
local said, stretches = {}, {}
for i = 3, #ARGV do
  stretches[i - 2] = {tonumber(ARGV[i]), tonumber(ARGV[i])}
end
local there, count = erase(stretches, bury('dead', 'damaged', ''), 'dead damaged')
conclude(said, 'dead', 'damaged', there, count, {}, 0)
publish(said)
return count
