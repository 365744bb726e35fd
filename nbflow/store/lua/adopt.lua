--! adopt: a stock worker of RQ has popped this job by itself: lease it to that worker
--! uses: event job
--! keys:
--! args: worker job lease
--! reply: the job, or false if it is none of ours that waits (canceled, or under way elsewhere)
local f = call('HMGET', RQ..':job:'..job, unpack(JOB_FIELDS))
if not f[1] or call('SISMEMBER', P..':open:'..f[1], job) == 0 or call('HEXISTS', RQ..':job:'..job, 'lease') == 1 then return false end
return lease_out(job, worker, lease, f)
