--! untrigger: a trigger starts a flow no more, or no flow: without one it goes; the runs that it started stay
--! uses: event owners triggers
--! keys:
--! args: trigger flow
--! reply: how many flows it starts no more
-- flow: '' is all
local key = triggers.key(trigger)
local source = call('HGET', key, 'source')
if not source then return 0 end
local gone, left = 0, 0
for _, pair in ipairs(triggers.listeners(source)) do
  local name, of = string.match(pair, '^(%S+) (%S+)$')
  if name == trigger and (flow == '' or flow == of) then
    call('SREM', P..':listens:'..source, pair)
    call('SREM', P..':uses:'..of, 'trigger '..trigger)
    own_instead(key, 'owns '..of, {})
    for _, what in ipairs({'on', 'started', 'repeated', 'failed', 'last', 'run', 'error'}) do call('HDEL', key, what..' '..of) end
    gone = gone + 1
  elseif name == trigger then left = left + 1 end
end
if left == 0 then
  call('DEL', key)
  call('SREM', P..':triggers', trigger)
end
return gone
