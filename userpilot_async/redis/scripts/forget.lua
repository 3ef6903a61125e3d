-- Forget lost calls that were kept for long enough. ARGV: generation, the sender's lease, before when they were lost (ms).
if is_other(ARGV[1]) then
  return other_generation()
end
return leads(ARGV[2]) and forget(ARGV[3]) or 0
