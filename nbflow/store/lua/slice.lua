--! slice: the next at most 500 jobs that were counted but not yet made (a map) or not yet removed (a cancel), steps not yet closed, or ends not yet taken over
--! uses: event job closing cancel awaits reuse cache advance begin owners launch children giveback answers
--! keys:
--! args:
--! reply: 1 if more is left to do, 0 if not
local entry = call('LPOP', P..':slices')
if not entry then return 0 end
local id, step = string.match(entry, '^(%S+) (%S+)$')
if id == '*event' then
  local topic, from, upto, nonce = string.match(step, '^([^/]+)/([^/]+)/([^/]+)/(.+)$')
  local _, more = give(topic, call('GET', P..':given:'..nonce) or 'null', from, upto)
  if more then call('RPUSH', P..':slices', '*event '..topic..'/'..more..'/'..upto..'/'..nonce)
  else call('DEL', P..':given:'..nonce) end
  return call('EXISTS', P..':slices')
end
if id == '*child' then
  children.join(step)
  return call('EXISTS', P..':slices')
end
if step == '*children' then
  if children.cancel_some(id) then call('RPUSH', P..':slices', entry) end
  return call('EXISTS', P..':slices')
end
take(id)
if step == '*cancel' then
  if cancel_slice(id) then call('RPUSH', P..':slices', entry) end
  interrupt_revoked()
elseif status == 'running' and step == '*close' then
  resume()
  for _, name in ipairs(advance(nil)) do wake(name) end
elseif status == 'running' and step == '*reuse' then
  call('HDEL', rk, 'reusing')
  for _, name in ipairs(advance(nil)) do wake(name) end
elseif status == 'running' then
  local p, queues = plan_of('step:'..step), {}
  if p.each then
    make_slice(step, p, SLICE, iso(), nil, queues)
    if num('made:'..step) < num('b:'..step) then call('RPUSH', P..':slices', entry) end
  else queues[1] = put(step, p, '', iso(), nil) end
  if #asked > 0 then for _, name in ipairs(advance(nil)) do queues[#queues + 1] = name end end
  for _, name in ipairs(queues) do wake(name) end
end
return call('EXISTS', P..':slices')
