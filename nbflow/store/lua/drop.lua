--! drop: a flow is not started for a firing, because it cannot be
--! uses: event triggers
--! keys:
--! args: firing trigger flow error
--! reply: 1 if it was to be started still, 0 if not
-- error: why, which is kept with the trigger; '' is no fault of anybody
if not triggers.done(firing, trigger..' '..flow) then return 0 end
if error ~= '' and call('HEXISTS', triggers.key(trigger), 'on '..flow) == 1 then
  triggers.count(trigger, flow, 'failed')
  call('HSET', triggers.key(trigger), 'error '..flow, error)
end
return 1
