-- What people see: about and account, the first call, who has the lease, how many requests are under way, how many
-- lost calls are kept, what all of it takes (as Redis estimates that; nothing where it may not be asked), and the time;
-- tokens that are not back yet, requests under way, and files that the server may have.
-- It guards nothing, and says of which generation it is.
local used = 0
for i = 1, #KEYS do
  local bytes = redis.pcall('MEMORY', 'USAGE', KEYS[i], 'SAMPLES', 5)
  if type(bytes) == 'table' then
    used = false
    break
  end
  used = used + (bytes or 0)
end
local noted = {}
for i, one in ipairs(redis.call('HGETALL', requests)) do
  if i % 2 == 0 then
    noted[#noted + 1] = one
  end
end
return {redis.call('HGETALL', about), redis.call('HGETALL', account),
        redis.call('XRANGE', log, '-', '+', 'COUNT', 1), redis.call('GET', lease), redis.call('HLEN', requests),
        redis.call('XLEN', lost), used, string.format('%.6f', now()),
        redis.call('ZRANGEBYSCORE', spent, string.format('%.6f', now()), '+inf'), noted,
        redis.call('HGETALL', files)}
