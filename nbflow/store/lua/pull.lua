--! pull: a run of a flow, because a trigger fired; that flow has been started for it then, in the same breath
--! uses: event job closing cancel awaits reuse cache advance begin owners launch triggers
--! keys:
--! args: firing trigger id flow plan bundle sig input inputdigest start key tags queue priority delay by *fields
--! reply: {'OK', id} | {'KEY', run, same|other} an earlier one with this key did it | {'DONE'} somebody else started it, or dropped it | {'GONE'} the trigger starts this flow no more | {'MISSING', what} | {'AGAIN', id} | {'FULL', percent}: nothing was written, it is to be started still
return (function()                                                    -- a script's own locals are at most 200
local order = {id = id, flow = flow, plan = plan, bundle = bundle, sig = sig, input = input, inputdigest = inputdigest, start = start,
  key = key, tags = tags, queue = queue, priority = priority, delay = delay, by = by}
local pair, tk = trigger..' '..flow, triggers.key(trigger)
if not triggers.is_open(firing, pair) then return {'DONE'} end
if call('HEXISTS', tk, 'on '..flow) == 0 then
  triggers.done(firing, pair)
  return {'GONE'}
end
local why = refusal_of(order)
if why and why[1] ~= 'KEY' then return why end
triggers.done(firing, pair)
if why then
  triggers.count(trigger, flow, 'repeated')
  return why
end
launch_run(order, fields)
triggers.count(trigger, flow, 'started')
call('HSET', tk, 'last '..flow, now_ms(), 'run '..flow, id)
return {'OK', id}
end)()
