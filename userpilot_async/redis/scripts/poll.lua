-- What others have done. ARGV: generation, what has been heard, the revision that is known, and the caller's last step.
if is_other(ARGV[1]) or is_set_back(ARGV[4]) then
  return other_generation()
end
if redis.call('HGET', account, 'revision') == ARGV[3] then
  return false
end
return state(ARGV[2])
