--! settle: the end of an attempt, if the lease is ours: its event, its emissions and all that follows; then the next job, if one is asked for
--! uses: event job closing cancel awaits reuse cache advance begin owners launch children
--! keys: *queues
--! args: worker want job lease next run task attempt queue long outcome data *emits
--! reply: {'OK', job or false, slices 0|1, ms or nothing} as of claim | {'AGAIN', job or false, slices} settled before, taken from us or canceled; what we hold now | {'STALE', false, 0} this worker was given up
-- outcome: completed | failed | retry (data has delay, in ms, and nextAttempt) | declined (see parts/declined.lua) | awaiting, joined (see
-- parts/children.lua). long: '1' if a beat may have written RQ's records of the task. May be sent again when its answer got lost.
if call('SREM', RQ..':worker:'..worker..':executions', job..':'..lease) == 0 then          -- the fence
  if call('EXISTS', RQ..':worker:'..worker) == 0 then return {'STALE', false, 0} end
  return {'AGAIN', held(worker, next), call('EXISTS', P..':slices')}
end
take(run)
if status ~= 'running' then
  limits.free(job, lease, call('HGET', RQ..':job:'..job, 'lim') or '')
  return {'AGAIN', held(worker, next), call('EXISTS', P..':slices')}                          -- canceled; a slice removes the task
end
local step = string.match(task, '^[^%[]+')
local p = plan_of('step:'..step)
local lim = p and p.lim and (call('HGET', RQ..':job:'..job, 'lim') or limits.text_of(task))
local key = outcome == 'retry' and call('HGET', RQ..':job:'..job, 'key')
if long == '1' then drop_records(job, lease, queue) end
if lim then limits.free(job, lease, lim, outcome == 'declined') end
if outcome == 'joined' then emits, outcome = children.joined(job, emits), 'completed' end
local stays = p and p.after and outcome == 'completed' and hold_after(job, task, attempt, p.after, data, emits)
if outcome == 'declined' then
  stays = true
  declined.settle(worker, job, call('HGET', rk, 'bundle'), {run, task, attempt, queue, lim}, data)
end
if outcome == 'awaiting' then
  stays = true
  children.await(job, task, attempt, data, emits)
end
if not stays then
  call('DEL', RQ..':job:'..job, P..':held:'..job)
  call('SREM', P..':open:'..run, job)
  event(run, 'step.'..outcome, task, attempt, data)
end
if outcome == 'retry' then
  local ok, again = pcall(cjson.decode, data)
  if not ok then again = {nextAttempt = attempt + 1, delay = 0} end    -- nothing may raise here any more
  try_later(run, task, again.nextAttempt, queue, key, again.delay)
elseif not stays then
  if p and p.cache and outcome == 'completed' then keep_end(step, p, task, data, emits) end
  apply(task, attempt, emits)
  count_out(step, p, task, outcome == 'failed' and data or nil)
end
local mine = want == '1' and not is_stopped(queue_of(queues[1])) and {queue = queue_of(queues[1])} or nil
local made = advance(mine)
for _, name in ipairs(made) do wake(name) end
children.begin()
local got = false
if mine and mine.job then got = lease_out(mine.job, worker, next, mine.fields)
elseif want == '1' then got = claim_next(worker, queues, next, 'busy')
else call('HSET', RQ..':worker:'..worker, 'state', 'idle') end
return {'OK', got, call('EXISTS', P..':slices'), limits.due or nil}
