--! unschedule: a schedule goes; the runs that it started stay
--! uses: event owners schedule
--! keys:
--! args: flow schedule
--! reply: 1 if there was one, 0 if not
own_instead(schedules.schedule_key(flow, schedule), 'owns', {})
call('ZREM', P..':schedules', flow..':'..schedule)
call('SREM', P..':uses:'..flow, 'schedule '..schedule)
return call('DEL', schedules.schedule_key(flow, schedule))
