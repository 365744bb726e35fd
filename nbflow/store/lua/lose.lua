--! lose: the process of an isolated attempt died, and its worker lives: that one task goes back to its queue
--! uses: event job closing cancel awaits reuse advance giveback
--! keys:
--! args: worker job lease cause
--! reply: 'BACK' it waits again, or failed for good | 'AGAIN' said before, taken from us or canceled | 'STALE' this worker was given up
-- cause: as of giveback. May be sent again when its answer got lost.
local wk = RQ..':worker:'..worker
if call('SREM', wk..':executions', job..':'..lease) == 0 then                                          -- the fence
  return call('EXISTS', wk) == 0 and 'STALE' or 'AGAIN'
end
call('HSET', wk, 'state', 'idle')
return give_back_one(job, lease, cause, 'its process') and 'BACK' or 'AGAIN'
