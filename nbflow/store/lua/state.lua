--! state: one change of a run's state by a running attempt, and its event
--! uses: event
--! keys:
--! args: worker job lease run task attempt operation key value nonce
--! reply: {'OK', value} the new value as JSON ('' after a delete) | {'LOST'} the lease is gone | {'NUMBER', value} what is there is no number
-- nonce: another one for each change; the same one again changes nothing. operation: set | delete | incr. value: JSON text; for incr a number.
if call('SISMEMBER', RQ..':worker:'..worker..':executions', job..':'..lease) == 0 or call('HGET', P..':run:'..run, 'status') ~= 'running' then
  return {'LOST'}
end
local sk = P..':state:'..run
local name = cjson.encode(key)
if operation == 'delete' then
  if call('HDEL', sk, key) == 1 then event(run, 'state', task, attempt, '{"operation":"delete","key":'..name..'}') end
  return {'OK', ''}
end
if operation == 'incr' then
  if call('HGET', RQ..':job:'..job, 'nonce') == nonce then return {'OK', call('HGET', sk, key) or ''} end      -- said before, the answer got lost
  local was = call('HGET', sk, key) or '0'
  if not string.match(was, '^%-?[%d.]+[eE]?[-+]?%d*$') then return {'NUMBER', was} end
  if string.match(was, '^%-?%d+$') and string.match(value, '^%-?%d+$') then
    call('HINCRBY', sk, key, value)
  else
    call('HINCRBYFLOAT', sk, key, value)
  end
  call('HSET', RQ..':job:'..job, 'nonce', nonce)
  value = call('HGET', sk, key)
else call('HSET', sk, key, value) end
event(run, 'state', task, attempt, '{"operation":"set","key":'..name..',"value":'..value..'}')
return {'OK', value}
