--! fire: an occurrence of a schedule: a run of its flow, unless its overlap says otherwise, and the next occurrence, in one
--! uses: event job closing cancel awaits reuse cache advance begin owners launch schedule
--! keys:
--! args: schedule rev due following overlap id flow plan bundle sig input inputdigest start key tags queue priority delay by *fields
--! reply: {'OK', id} | {'SKIPPED', run} that one goes on | {'KEY', run, same|other} it was started already | {'PAST', next} somebody else decided it | {'GONE'} | {'MISSING', what} | {'AGAIN', id} | {'FULL', percent}: nothing was written, the occurrence is due still
-- overlap: allow | skip | queue | cancel_running
return (function()                                                    -- a script's own locals are at most 200
local order = {id = id, flow = flow, plan = plan, bundle = bundle, sig = sig, input = input, inputdigest = inputdigest, start = start,
  key = key, tags = tags, queue = queue, priority = priority, delay = delay, by = by}
local why = schedules.passed(flow, schedule, rev, due)
if why then return why end
local sk = schedules.schedule_key(flow, schedule)
local before = call('HGET', sk, 'run')
local goes_on = before and call('HGET', P..':run:'..before, 'status') == 'running'
if goes_on and overlap == 'skip' then
  call('HINCRBY', sk, 'skipped', 1)
  schedules.move_on(flow, schedule, following)
  return {'SKIPPED', before}
end
why = refusal_of(order)
if why and why[1] ~= 'KEY' then return why end
if why then
  schedules.move_on(flow, schedule, following)
  return why
end
if goes_on and overlap == 'cancel_running' then
  take(before)
  local was = call('HDEL', rk, 'due') == 1 and 'awaiting' or status
  close_run('canceled', 'flow.cancel', ',"reason":"the next occurrence of its schedule has come","by":'..by..',"previousStatus":"'..was..'"')
  if cancel_slice(before) then call('RPUSH', P..':slices', before..' *cancel') end
  interrupt_revoked()
end
if goes_on and overlap == 'queue' then order.after, order.line = before, sk end
launch_run(order, fields)
call('HSET', sk, 'run', id, 'last', due)
call('HINCRBY', sk, 'started', 1)
schedules.move_on(flow, schedule, following)
return {'OK', id}
end)()
