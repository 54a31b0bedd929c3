-- Deletes a record if what is there is as expected, and tells watchers.
-- KEYS: record, index, revision, era
-- ARGV: expected, writer, id, channel
local current = redis.call('GETRANGE', KEYS[1], 0, 63)
local version = string.match(current, '^(%d+%-%x+)\n') or (current == '' and 'absent' or 'foreign')
if ARGV[1] ~= 'any' and ARGV[1] ~= version then
  return {'conflict', redis.call('GET', KEYS[1]) or ''}
end
if version == 'absent' then
  redis.call('SREM', KEYS[2], ARGV[3])
  return {'absent', ''}
end
local counter = redis.call('INCR', KEYS[3])
local era = redis.call('GET', KEYS[4])
if counter == 1 or not era then
  era = ARGV[2]
  redis.call('SET', KEYS[4], era)
end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[3])
local message = string.format('gone %s 0 %s %.0f-%s\n', era, ARGV[3], counter, ARGV[2])
redis.call('PUBLISH', ARGV[4], message)
redis.call('PUBLISH', ARGV[4] .. ':' .. ARGV[3], message)
return {'done', ''}
