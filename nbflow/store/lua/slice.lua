--! slice: the next at most 500 jobs that were counted but not yet made (a map) or not yet removed (a cancel), or steps not yet closed
--! uses: event job closing cancel advance
--! keys:
--! args:
--! reply: 1 if more is left to do, 0 if not
local entry = call('LPOP', P..':slices')
if not entry then return 0 end
local id, step = string.match(entry, '^(%S+) (%S+)$')
take(id)
if step == '*cancel' then
  if cancel_slice(id) then call('RPUSH', P..':slices', entry) end
  interrupt_revoked()
elseif status == 'running' and step == '*close' then
  resume()
  for _, name in ipairs(advance(nil)) do wake(name) end
elseif status == 'running' then
  local p, queues = plan_of('step:'..step), {}
  if p.each then
    make_slice(step, p, SLICE, iso(), nil, queues)
    if num('made:'..step) < num('b:'..step) then call('RPUSH', P..':slices', entry) end
  else queues[1] = put(step, p, '', iso(), nil) end
  for _, name in ipairs(queues) do wake(name) end
end
return call('EXISTS', P..':slices')
