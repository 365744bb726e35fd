--! state: one change of a run's state by a running attempt, and its event
--! uses: event fades
--! keys:
--! args: worker job lease run task attempt operation key value stays was nonce
--! reply: {'OK', value} the new value as JSON ('' after a delete) | {'LOST'} the lease is gone | {'NUMBER', value} what is there is no number | {'RANGE', value} the sum is beyond what a number holds | {'OTHER', value} what is there is not what it was ('' if nothing is there) | {'MANY', n} so many values go by themselves that there may be no other
-- nonce: another one for each change; the same one again changes nothing. operation: set | swap | delete | incr. value: JSON text; for incr a number.
-- stays: '' for good | 'end' of the run | so many ms, at most to the end of the run | 'as' it stayed before. was, of a swap: the text that is replaced, '' for none.
if call('SISMEMBER', RQ..':worker:'..worker..':executions', job..':'..lease) == 0 or call('HGET', P..':run:'..run, 'status') ~= 'running' then
  return {'LOST'}
end
local sk, fk, jk, now = P..':state:'..run, P..':fades:'..run, RQ..':job:'..job, now_ms()
local fading = call('HGET', P..':run:'..run, 'fading')
if fading then fade_due(run, now) end
local name = cjson.encode(key)
if operation == 'delete' then
  if fading then call('ZREM', fk, key) end
  if call('HDEL', sk, key) == 1 then event(run, 'state', task, attempt, '{"operation":"delete","key":'..name..'}') end
  return {'OK', ''}
end
local there = call('HGET', sk, key)
if operation ~= 'set' then
  if call('HGET', jk, 'nonce') == nonce then return {'OK', there or ''} end      -- said before, the answer got lost
  if operation == 'swap' and (there or '') ~= was then return {'OTHER', there or ''} end
end
local goes = stays ~= '' and stays ~= 'as'
if goes and call('ZCARD', fk) >= MOST_FADING and not call('ZSCORE', fk, key) then return {'MANY', MOST_FADING} end
if operation == 'incr' then
  there = there or '0'
  if not string.match(there, '^%-?[%d.]+[eE]?[-+]?%d*$') then return {'NUMBER', there} end
  local is_whole = string.match(there, '^%-?%d+$') and string.match(value, '^%-?%d+$')
  local sum = redis.pcall(is_whole and 'HINCRBY' or 'HINCRBYFLOAT', sk, key, value)
  if type(sum) == 'table' then return {'RANGE', there} end
  value = call('HGET', sk, key)
else call('HSET', sk, key, value) end
if operation ~= 'set' then call('HSET', jk, 'nonce', nonce) end
local told, due = '', nil
if goes then
  call('HSET', P..':run:'..run, 'fading', 1)
  due = stays == 'end' and 'inf' or now + stays
  call('ZADD', fk, due, key)
  if stays ~= 'end' then call('ZADD', P..':timers', 'LT', due, 'fade '..run) end
elseif fading and stays == '' then call('ZREM', fk, key)
elseif fading then due = call('ZSCORE', fk, key) end
if due then told = due == 'inf' and ',"cleanup":"on_end"' or ',"ttl":'..string.format('%.0f', due - now) end
event(run, 'state', task, attempt, '{"operation":"set","key":'..name..',"value":'..value..told..'}')
return {'OK', value}
