-- Calls, and what is noted of them. ARGV: generation, first id, last id, how many at most. Gives for each call its entry's
-- name, the call, and when it was put; the ids of those that were sent; the parts that the server has; and whether it stopped
-- before the end, for their number or for their size: the next command must not wait long.
if is_other(ARGV[1]) then
  return other_generation()
end
local MOST_BYTES, AT_ONCE = 1024 * 1024, 100
local flat, bytes, left, stopped = {}, 0, tonumber(ARGV[4]), false
local from, last = ARGV[2] .. '-1', ARGV[3] .. '-1'
repeat
  local entries = redis.call('XRANGE', log, from, last, 'COUNT', math.min(AT_ONCE, left))
  for _, one in ipairs(entries) do -- flat: a client takes three times as long to read what is nested
    local at = #flat
    flat[at + 1], flat[at + 2], flat[at + 3] = one[1], one[2][2] or '', one[2][6] or '0'
    bytes, left, from = bytes + #flat[at + 2], left - 1, '(' .. one[1]
    if bytes >= MOST_BYTES then
      break
    end
  end
  stopped = left == 0 or bytes >= MOST_BYTES
until stopped or #entries < AT_ONCE
if #flat == 0 then
  return {flat, {}, {}, 0}
end
local first, reached = id_of(flat[1]), id_of(flat[#flat - 2])
return {flat, redis.call('ZRANGEBYSCORE', sent, first, reached), redis.call('ZRANGEBYSCORE', parts, first, reached),
        stopped and 1 or 0}
