-- Writes a record if what is there is as expected, and tells watchers.
-- KEYS: record, index, revision, era
-- ARGV: expected, writer, value, lease in ms (0: none), id, channel, most records
local current = redis.call('GETRANGE', KEYS[1], 0, 63)
local version = string.match(current, '^(%d+%-%x+)\n') or (current == '' and 'absent' or 'foreign')
if ARGV[1] ~= 'any' and ARGV[1] ~= version then
  return {'conflict', redis.call('GET', KEYS[1]) or ''}
end
if version == 'absent' and redis.call('SISMEMBER', KEYS[2], ARGV[5]) == 0
    and redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[7]) then
  return {'full', ''}
end
local counter = redis.call('INCR', KEYS[3])
local era = redis.call('GET', KEYS[4])
if counter == 1 or not era then
  era = ARGV[2]
  redis.call('SET', KEYS[4], era)
end
local stamp = string.format('%.0f-%s', counter, ARGV[2])
local stored = stamp .. '\n' .. ARGV[3]
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], stored)
else
  redis.call('SET', KEYS[1], stored, 'PX', ARGV[4])
end
redis.call('SADD', KEYS[2], ARGV[5])
local message = 'put ' .. era .. ' ' .. ARGV[4] .. ' ' .. ARGV[5] .. ' ' .. stored
redis.call('PUBLISH', ARGV[6], message)
redis.call('PUBLISH', ARGV[6] .. ':' .. ARGV[5], message)
return {'done', stamp}
