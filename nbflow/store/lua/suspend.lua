--! suspend: a schedule is paused, or goes on; what came due meanwhile is then for its catch-up to decide
--! uses: event schedule
--! keys:
--! args: flow schedule paused
--! reply: {'OK', next} | {'GONE'}
-- paused: 1 | 0
local key = schedules.schedule_key(flow, schedule)
local due = call('HGET', key, 'next')
if not due then return {'GONE'} end
if paused == '1' then call('HSET', key, 'paused', 1) else call('HDEL', key, 'paused') end
schedules.look_at(flow, schedule, paused == '1' and schedules.paused or due)
return {'OK', due}
