--! peek: a task as a claim hands it over, for who looks at it or gives its result by hand
--! uses: event job closing
--! keys:
--! args: run task attempt
--! reply: what a claim answers with | false there is no such run, or no such step
take(run)
local p = status and plan_of('step:'..string.match(task, '^[^%[]*'))
if not p then return false end
local key = call('HGET', P..':keys:'..run, task)
return (offer(job_id(run, task, attempt), {run, task, attempt, QP..(queue_of_run or p.queue), key, false}))
