--! slice: the next at most 500 jobs that were counted but not yet made (a map) or not yet removed (a cancel)
--! uses: event job closing advance cancel
--! keys:
--! args:
--! reply: 1 if more is left to do, 0 if not
local entry = call('LPOP', P..':slices')
if not entry then return 0 end
local id, step = string.match(entry, '^(%S+) (%S+)$')
take(id)
if step == '*cancel' then
  if cancel_slice(id) then call('RPUSH', P..':slices', entry) end
elseif get('status') == 'running' then
  local queues = {}
  make_slice(step, plan_of('step:'..step), SLICE, iso(), nil, queues)
  if num('made:'..step) < num('b:'..step) then call('RPUSH', P..':slices', entry) end
  for _, name in ipairs(queues) do wake(name) end
end
return call('EXISTS', P..':slices')
