--! act: what a person does to one unfinished task: cancel it, have it tried again at once, or give its result
--! uses: event job closing cancel awaits reuse cache advance owners giveback answers
--! keys:
--! args: run task attempt what data nonce *emits
--! reply: {'OK'} | {'ENDED', status} the run is over | {'UNKNOWN'} no such run | {'GONE'} no such attempt is under way | {'QUEUED'} to be tried again: it waits for a worker already | {'HELD'} to be tried again: it was not tried yet, and waits for what its hold= says
-- what: cancel | retry | complete. data: that of the event. An attempt that runs is given up: its lease ends here, and what it does counts no more.
-- nonce: another one for each act; the same one again (its reply got lost) is OK again.
take(run)
if not status then return {'UNKNOWN'} end
if status ~= 'running' then return {'ENDED', status} end
local job = job_id(run, task, attempt)
local step, mark = string.match(task, '^[^%[]+'), '#'..job..':act'
local p = step and plan_of('step:'..step)
if call('HGET', P..':resolved:'..run, mark) == nonce then return {'OK'} end
if not p or call('SISMEMBER', P..':open:'..run, job) == 0 then return {'GONE'} end
local f, searched = parts_of(job), {}
if what == 'retry' and f[3] == 'queued' then return {'QUEUED'} end
if what == 'retry' and f[3] == 'deferred' and call('HGET', RQ..':job:'..job, 'hold') == 'before' then return {'HELD'} end
call('HSET', P..':resolved:'..run, mark, nonce)
if what == 'retry' and f[3] == 'scheduled' then
  call('ZREM', P..':timers', 'retry '..job)
  again(job)
  return {'OK'}
end
local queue, key = string.sub(f[6], #QP + 1), call('HGET', RQ..':job:'..job, 'key')
take_back(job, f, searched)
call('SREM', P..':open:'..run, job)
for name in pairs(searched) do lift(name) end
if what == 'retry' then
  event(run, 'step.retry', task, attempt, data)
  push_job(queue, make_job(run, task, attempt + 1, queue, '["retry"]', key, iso()), priority_of(task))
  wake(queue)
else
  event(run, what == 'cancel' and 'step.canceled' or 'step.completed', task, attempt, data)
  if what == 'complete' then apply(task, attempt, emits) end
  count_out(step, p, task, nil, what == 'cancel')
  for _, name in ipairs(advance(nil)) do wake(name) end
end
interrupt_revoked()
return {'OK'}
