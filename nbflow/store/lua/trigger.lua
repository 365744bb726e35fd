--! trigger: a trigger, new or changed, and a flow that it starts; what else it starts stays
--! uses: event owners triggers
--! keys:
--! args: trigger record source match flow subscription *owns
--! reply: {'NEW'|'CHANGED'|'SAME'} | {'MISSING'} no version of the flow is published | {'MANY', most} so many flows listen to its source already
-- source: a topic, or '@' and its own name. match: JSON, [[field, value], ...]. owns: the artifacts of its input, which somebody owns until
-- this is said
if call('HEXISTS', P..':versions:'..flow, 'newest') == 0 then return {'MISSING'} end
local key, on, listens = triggers.key(trigger), 'on '..flow, P..':listens:'..source
local f = call('HMGET', key, 'record', 'source', on)
if f[1] == record and f[3] == subscription then return {'SAME'} end
local moving = {[trigger..' '..flow] = true}
if f[2] and f[2] ~= source then
  for _, pair in ipairs(triggers.listeners(f[2])) do
    if string.match(pair, '^%S+') == trigger then moving[pair] = true end
  end
end
local count = call('SCARD', listens)
for pair in pairs(moving) do
  if call('SISMEMBER', listens, pair) == 0 then count = count + 1 end
end
if count > triggers.most then return {'MANY', triggers.most} end
for pair in pairs(moving) do
  if f[2] and f[2] ~= source then call('SREM', P..':listens:'..f[2], pair) end
  call('SADD', listens, pair)
end
call('HSET', key, 'record', record, 'source', source, 'match', match, on, subscription)
own_instead(key, 'owns '..flow, owns)
call('SADD', P..':triggers', trigger)
call('SADD', P..':uses:'..flow, 'trigger '..trigger)
return {f[1] and 'CHANGED' or 'NEW'}
