-- Reads records with what is left of their leases, and how far the collection's writes have come.
-- KEYS: index, revision, era
-- ARGV: what stands before an id in a record's key; ids, or none for all of the index
local ids = {}
if #ARGV == 1 then
  ids = redis.call('SMEMBERS', KEYS[1])
else
  for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
end
local reply = {redis.call('GET', KEYS[2]) or '0', redis.call('GET', KEYS[3]) or ''}
for _, id in ipairs(ids) do
  local key = ARGV[1] .. id
  local stored = redis.call('GET', key)
  if stored then
    reply[#reply + 1] = id
    reply[#reply + 1] = redis.call('PTTL', key)
    reply[#reply + 1] = stored
  else
    -- A lease has ended. A server that takes no writes now will be asked again.
    redis.pcall('SREM', KEYS[1], id)
  end
end
return reply
