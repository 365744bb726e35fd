--! upload: a plan or a bundle for a launch; it goes after an hour if no run comes to own it
--! uses: event
--! keys:
--! args: kind digest *parts
--! reply: 1 if it was not there, 0 if it was
-- kind: plan (parts: fields and values) | bundle (parts: the one blob)
local key, HOUR = P..':'..kind..':'..digest, 3600
if call('EXISTS', key) == 1 then
  if call('TTL', key) >= 0 then call('EXPIRE', key, HOUR) end         -- not of one that is owned
  return 0
end
if kind == 'plan' then
  for i = 1, #parts, 4000 do call('HSET', key, unpack(parts, i, math.min(i + 3999, #parts))) end
else call('SET', key, parts[1]) end
call('EXPIRE', key, HOUR)
return 1
