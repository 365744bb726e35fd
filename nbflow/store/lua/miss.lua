--! miss: the occurrences of a schedule up to now start nothing: they came due while nobody looked, and its catch-up wants none of them
--! uses: event schedule
--! keys:
--! args: flow schedule rev due following
--! reply: {'OK'} | {'PAST', next} somebody else decided it | {'GONE'} there is no such schedule
local why = schedules.passed(flow, schedule, rev, due)
if why then return why end
call('HINCRBY', schedules.schedule_key(flow, schedule), 'missed', 1)
schedules.move_on(flow, schedule, following)
return {'OK'}
