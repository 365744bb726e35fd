--! on: fades
-- The end of a run, and removing the unfinished tasks of one that ended before them, at most 500 a script.
-- Returns whether tasks are left. A queue is only searched while it is short; else its worker passes over the id.
-- A run that has ended, or was ended while it waited itself, hands its place to the run that waits behind it.
local function leave_line(before, behind, line)
  local bk = P..':run:'..(before or '')
  if before and call('HGET', bk, 'status') == 'running' then
    if behind then
      call('HSET', bk, 'then', behind)
      call('HSET', P..':run:'..behind, 'after', before)
    else
      call('HDEL', bk, 'then')
      if call('HGET', line, 'run') == run then call('HSET', line, 'run', before) end
    end
  elseif behind then call('ZADD', P..':timers', now_ms(), 'start '..behind) end
end

-- Runs that a run started (see parts/children.lua) lie in <p>:children:<run>, in their order, and `born` counts them. The task that awaits
-- such a run is its `awaiter`.
local children = {starts = {}}

function children.ended(job)                                          -- the task that awaits the run at hand goes on, in a slice
  local f = call('HMGET', RQ..':job:'..job, 'origin', 'child')
  if f[2] ~= run then return end
  call('RPUSH', P..':slices', '*child '..job)
  wake(string.sub(f[1], #QP + 1))
end

local function close_run(new, kind, data)                             -- the end of a run, whichever it is
  local now = now_ms()
  local f = call('HMGET', rk, 'flow', 'started', 'after', 'then', 'queued_by', 'fading', 'awaiter', 'born')
  status = new
  if f[6] then fade_all(run) end
  event(run, kind, '', 0, '{"duration":'..(now - f[2])..data..'}')
  call('HSET', rk, 'status', new, 'ended', now)
  call('ZREM', P..':runs:running', run)
  call('ZADD', P..':runs:'..new, now, run)
  call('DEL', P..':meet:'..run, P..':left:'..run, P..':turns:'..run)
  if reuses then call('UNLINK', P..':reuse:'..run, P..':again:'..run, P..':making:'..run, P..':misses:'..run) end
  call('ZREM', P..':timers', 'deadline '..run, 'start '..run)
  call('ZREM', P..':stalls', run)
  local kept_ms = (plan_of('limits') or {}).retention
  if kept_ms then call('ZADD', P..':retire', now + kept_ms, run) end
  if f[3] or f[4] then leave_line(f[3], f[4], f[5]) end
  if f[7] then children.ended(f[7]) end
  if f[8] and (new == 'canceled' or doomed) then                      -- what it started ends with it
    call('HSET', rk, 'ends', 0)
    call('RPUSH', P..':slices', run..' *children')
    wake(queue_of_run or plan_of('step:'..plan_of('steps')[1]).queue)   -- there may be nobody who looks
  end
  tell(run, f[1], kind)
end

local HEIRS = 50                                                      -- runs that a script ends because of the run that started them
function children.cancel_some(id)                                     -- the next of them, in their order; whether more are left
  local from = call('HGET', P..':run:'..id, 'ends')                   -- the last that was looked at
  if not from then return false end
  local rows = call('ZRANGEBYSCORE', P..':children:'..id, '('..from, '+inf', 'WITHSCORES', 'LIMIT', 0, HEIRS)
  for i = 1, #rows, 2 do
    take(rows[i])
    if status == 'running' then
      local was = call('HDEL', rk, 'due') == 1 and 'awaiting' or status
      close_run('canceled', 'flow.cancel', ',"reason":"the run that started it was ended","by":{"run":"'..id..'"},"previousStatus":"'..was..'"')
      call('RPUSH', P..':slices', rows[i]..' *cancel')
    end
  end
  local more = #rows == 2 * HEIRS
  if more then call('HSET', P..':run:'..id, 'ends', rows[#rows]) else call('HDEL', P..':run:'..id, 'ends') end
  return more
end

local function unhold(job)                                             -- a held task waits no more: out of the due-set, and of its topic's waiting ones
  local topic = call('HGET', RQ..':job:'..job, 'topic')
  call('ZREM', P..':timers', 'await '..job)
  if topic then call('ZREM', P..':waits:'..topic, job) end
  call('HDEL', RQ..':job:'..job, 'hold', 'since', 'limit', 'ends', 'topic')
end

local revoked = {}                                                    -- worker, lease: whom to interrupt
local function take_back(job, f, searched)                            -- out of its queue, the due-set, or its worker's hands. f: as parts_of gives them
  if f[3] == 'started' then
    call('SREM', RQ..':worker:'..f[4]..':executions', job..':'..f[5])
    drop_records(job, f[5], string.sub(f[6], #QP + 1))
    revoked[#revoked + 1] = f[4]
    revoked[#revoked + 1] = f[5]
  elseif f[6] then
    local queue = string.sub(f[6], #QP + 1)
    local beside = f[7] and call('ZREM', prio_key(queue), job) == 1
    if not beside and (f[7] or call('LLEN', queue_key(queue)) <= 1000) then call('LREM', queue_key(queue), 1, job) end
    searched[queue] = true
  end
  if f[8] then
    local queue = string.sub(f[6], #QP + 1)
    if f[3] == 'started' then limits.free(job, f[5], f[8]) else limits.leave(job, queue, f[8]) end
  end
  if f[9] then declined.leave(job, string.sub(f[6], #QP + 1), f[9]) end
  if f[3] == 'deferred' then unhold(job) else call('ZREM', P..':timers', 'retry '..job) end
  call('DEL', RQ..':job:'..job, P..':held:'..job)
end

local function parts_of(job) return call('HMGET', RQ..':job:'..job, 'task', 'attempt', 'status', 'worker_name', 'lease', 'origin', 'rank', 'lim', 'declined') end

local function cancel_slice(id)
  local searched = {}
  for _, job in ipairs(call('SPOP', P..':open:'..id, 500)) do
    local f = parts_of(job)
    take_back(job, f, searched)
    if f[1] then event(id, 'step.canceled', f[1], f[2], '{"reason":"run"}') end
  end
  for queue in pairs(searched) do lift(queue) end
  return call('EXISTS', P..':open:'..id) == 1
end

local function interrupt_revoked()                                    -- their supervisors hear RQ's channels
  for i = 1, #revoked, 2 do call('PUBLISH', RQ..':pubsub:'..revoked[i], '{"command":"stop-job","lease":'..revoked[i + 1]..'}') end
  revoked = {}
end
