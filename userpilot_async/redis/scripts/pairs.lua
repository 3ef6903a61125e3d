-- Keys that calls have named together, behind the last one that was heard. ARGV: generation, its number, and how many at
-- most. Gives each with its number.
if is_other(ARGV[1]) then
  return other_generation()
end
return redis.call('ZRANGE', paired, '(' .. ARGV[2], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
