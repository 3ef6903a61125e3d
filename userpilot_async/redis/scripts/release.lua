-- Give the lease back. ARGV: the token.
if leads(ARGV[1]) then
  redis.call('DEL', lease)
end
return 1
