--! trip: a trigger is fired by name: by hand, or by a delivery to its webhook
--! uses: event job closing cancel awaits triggers
--! keys:
--! args: trigger payload key nonce sig
--! reply: {'OK', how many flows there are to start} | {'PAUSED'} | {'GONE'} there is no such trigger, or it listens to a topic
-- nonce: another one for each; the same one again (its reply got lost) does nothing more. key: what the sender calls it, or ''
local f = call('HMGET', triggers.key(trigger), 'source', 'paused')
if f[1] ~= '@'..trigger then return {'GONE'} end
if not call('SET', P..':said:'..nonce, 1, 'NX', 'EX', 60) then
  return {'OK', math.max(0, call('HLEN', P..':firing:'..nonce) - triggers.fixed)}
end
if f[2] then
  call('HINCRBY', triggers.key(trigger), 'ignored', 1)
  return {'PAUSED'}
end
return {'OK', triggers.fire(f[1], payload, sig, nonce, key)}
