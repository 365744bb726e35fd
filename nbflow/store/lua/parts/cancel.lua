-- Removing the unfinished tasks of a canceled run, at most 500 a script.
-- Returns whether tasks are left. A queue is only searched while it is short; else its worker passes over the id.
local revoked = {}                                                    -- worker, lease: whom to interrupt
local function cancel_slice(id)
  for _, job in ipairs(call('SPOP', P..':open:'..id, 500)) do
    local jk = RQ..':job:'..job
    local f = call('HMGET', jk, 'task', 'attempt', 'status', 'worker_name', 'lease', 'origin')
    if f[3] == 'started' then
      call('SREM', RQ..':worker:'..f[4]..':executions', job..':'..f[5])
      drop_records(job, f[5], string.sub(f[6], #QP + 1))
      revoked[#revoked + 1] = f[4]
      revoked[#revoked + 1] = f[5]
    elseif f[6] and call('LLEN', RQ..':queue:'..f[6]) <= 1000 then call('LREM', RQ..':queue:'..f[6], 1, job) end
    call('ZREM', P..':timers', 'retry '..job)
    call('DEL', jk)
    if f[1] then event(id, 'step.canceled', f[1], f[2], '{"reason":"run"}') end
  end
  return call('EXISTS', P..':open:'..id) == 1
end
