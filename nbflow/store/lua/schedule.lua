--! schedule: a schedule of a flow, new or changed; what is due next stays where its times are the same
--! uses: event owners schedule
--! keys:
--! args: flow schedule record timing next *owns
--! reply: {'NEW'|'CHANGED'|'SAME', next} | {'MISSING'} no version of the flow is published
-- owns: the artifacts of its input, which somebody owns until this is said
if call('HEXISTS', P..':versions:'..flow, 'newest') == 0 then return {'MISSING'} end
local key = schedules.schedule_key(flow, schedule)
local f = call('HMGET', key, 'record', 'timing', 'next', 'paused')
if f[1] == record then return {'SAME', f[3]} end
local due = f[2] == timing and f[3] or next
call('HSET', key, 'record', record, 'timing', timing, 'next', due)
call('HINCRBY', key, 'rev', 1)
own_instead(key, 'owns', owns)
call('SADD', P..':uses:'..flow, 'schedule '..schedule)
schedules.look_at(flow, schedule, f[4] and schedules.paused or due)
return {f[1] and 'CHANGED' or 'NEW', due}
