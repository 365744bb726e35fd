--! adopt: a stock worker of RQ has popped this job by itself: lease it to that worker
--! uses: event job
--! keys:
--! args: worker job lease
--! reply: the job, or false if it is none of ours that waits (canceled, or under way elsewhere), or 'WAIT': a limit is used up, ask again
local STOCK_LEASE_MS = 3600000
local f = call('HMGET', RQ..':job:'..job, unpack(JOB_FIELDS))
if f[4] then lift(string.sub(f[4], #QP + 1)) end                       -- it took the head of the list
if f[8] ~= P or not f[1] or call('SISMEMBER', P..':open:'..f[1], job) == 0 or call('HEXISTS', RQ..':job:'..job, 'lease') == 1 then return false end
if f[10] and not limits.has_room(f[10]) then                            -- this worker keeps it: it cannot be put aside from there
  limits.leave(job, string.sub(f[4], #QP + 1), f[10])
  return 'WAIT'
end
call('ZADD', P..':workers', now_ms() + STOCK_LEASE_MS, worker)         -- RQ's own heartbeat does not reach us: it has that long
return lease_out(job, worker, lease, f)
