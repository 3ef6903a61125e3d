-- These files need not be found again. ARGV: generation, the sender's lease, and their names.
if is_other(ARGV[1]) then
  return other_generation()
end
if leads(ARGV[2]) then
  for i = 3, #ARGV do
    redis.call('HDEL', files, ARGV[i])
  end
end
return 1
