-- A task's RQ job: made, woken for, leased, read for its worker. A job names data only, nothing importable.
-- What a worker holds is the member <job>:<lease> in RQ's own set of its executions; removing it is the fence.
local function wake(queue)                                            -- a token for one idle worker; never more than 64
  local key = P..':wake:'..queue
  if call('LLEN', key) < 64 then call('RPUSH', key, 1) end
end

local function queue_key(queue) return RQ..':queue:'..QP..queue end
local function queue_of(key) return string.sub(key, #RQ + #QP + 8) end

local function job_id(run, task, attempt)
  local dashed = string.gsub(string.gsub(string.gsub(task, '%[', '-'), '%]', ''), '%.', '-')
  return run..'__'..dashed..'__attempt-'..attempt
end

local function job_hash(run, task, attempt, queue, key, at)             -- the job itself, known to its run; in no queue yet
  local job = job_id(run, task, attempt)
  call('HSET', RQ..':job:'..job, 'status', 'queued', 'origin', QP..queue, 'timeout', '-1', 'created_at', at, 'enqueued_at', at,
    'description', task, 'data', DATA, 'run', run, 'task', task, 'attempt', attempt)
  if key then call('HSET', RQ..':job:'..job, 'key', key) end
  call('SADD', P..':open:'..run, job)
  return job
end

local function make_job(run, task, attempt, queue, because, key, at)
  local job = job_hash(run, task, attempt, queue, key, at)
  event(run, 'step.queued', task, attempt, '{"queue":"'..queue..'","because":'..because..(key and ',"key":'..cjson.encode(key) or '')..'}')
  return job
end

local function push_job(queue, job)
  if call('RPUSH', queue_key(queue), job) == 1 then call('SADD', RQ..':queues', queue_key(queue)) end
end

local function try_later(run, task, attempt, queue, key, delay_ms)      -- the next attempt: its job waits in the due-set
  local job = job_hash(run, task, attempt, queue, key, iso())
  call('HSET', RQ..':job:'..job, 'status', 'scheduled')
  call('ZADD', P..':timers', now_ms() + delay_ms, 'retry '..job)
end

local function try_now(job)                                             -- its time has come; nothing if it was canceled meanwhile
  local f = call('HMGET', RQ..':job:'..job, 'run', 'task', 'attempt', 'origin', 'key', 'status')
  if f[6] ~= 'scheduled' then return end
  local queue = string.sub(f[4], #QP + 1)
  call('HSET', RQ..':job:'..job, 'status', 'queued', 'enqueued_at', iso())
  push_job(queue, job)
  event(f[1], 'step.queued', f[2], f[3], '{"queue":"'..queue..'","because":["retry"]'..(f[5] and ',"key":'..cjson.encode(f[5]) or '')..'}')
  wake(queue)
end

local function drop_records(job, lease, queue)                        -- what a beat wrote of a task that ran for long
  call('DEL', RQ..':execution:'..job..':'..lease, RQ..':executions:'..job)
  call('ZREM', RQ..':wip:'..QP..queue, job..':'..lease)
end

-- what a worker needs of a job. bind: what each subscription of the step receives (see define/plan.py)
local function offer(job, f)
  local run, task = f[1], f[2]
  local rk = P..':run:'..run
  local r = call('HMGET', rk, 'plan', 'bundle', 'sig', 'flow', 'inputdigest', 'queue')
  local step, index = string.match(task, '^([^%[]+)%[?([^%]]*)')
  local text = call('HGET', P..':plan:'..r[1], 'step:'..step)
  local out = {job, run, task, f[3], string.sub(f[4], #QP + 1), f[5] or '', f[6] or '0', r[1], r[2], r[3], r[4], r[5], r[6] or ''}
  local shown = {}
  local function hand(payload) out[#out + 1] = payload shown[#shown + 1] = payload or 'null' end
  for _, b in ipairs(text and cjson.decode(text).bind or {}) do
    if b[1] == 'p' then hand(call('HGET', rk, 'p:'..b[2]))
    elseif b[1] == 'a' then
      local topic = call('HGET', rk, 'y:'..step..':'..b[2])
      out[#out + 1] = topic
      hand(call('HGET', rk, 'p:'..topic))
    elseif b[1] == 'e' then
      for i = 2, #b do hand(call('HGET', P..':emits:'..run..':'..b[i], index)) end
    elseif b[1] == 'i' then hand(call('HGET', rk, 'input')) end
  end
  return out, shown
end

local function preview(shown)                                         -- what the task receives, where that is short
  local text = table.concat(shown, ',')
  if #shown == 0 or #text > 200 then return '' end
  return ',"input":'..(#shown == 1 and text or '['..text..']')
end

local function lease_out(job, worker, lease, f)
  call('HSET', RQ..':job:'..job, 'status', 'started', 'worker_name', worker, 'lease', lease)
  call('SADD', RQ..':worker:'..worker..':executions', job..':'..lease)
  local out, shown = offer(job, f)
  event(f[1], 'step.started', f[2], f[3], '{"worker":"'..worker..'"'..preview(shown)..(f[6] and ',"recovered":'..f[6] or '')..'}')
  return out
end

local JOB_FIELDS = {'run', 'task', 'attempt', 'origin', 'key', 'recovered', 'status'}

local function held(worker, lease)                                    -- the answer got lost: what this worker holds by this lease, or false
  for _, ex in ipairs(call('SMEMBERS', RQ..':worker:'..worker..':executions')) do
    local job, n = string.match(ex, '^(.-):(.+)$')
    if n == lease then return (offer(job, call('HMGET', RQ..':job:'..job, unpack(JOB_FIELDS)))) end
  end
  return false
end

-- the next job of these queues, in their order; false if there is none. A job whose hash is gone, or whose run was canceled: pass over it.
local function claim_next(worker, queues, lease, was)
  if call('EXISTS', RQ..':suspended') == 0 then
    local passed = 0
    for _, qk in ipairs(queues) do
      while passed < 500 do
        local job = call('LPOP', qk)
        if not job then break end
        local f = call('HMGET', RQ..':job:'..job, unpack(JOB_FIELDS))
        if f[7] == 'queued' and f[1] and call('SISMEMBER', P..':open:'..f[1], job) == 1 and call('HGET', P..':run:'..f[1], 'status') == 'running' then
          if was == 'idle' then call('HSET', RQ..':worker:'..worker, 'state', 'busy') end
          return lease_out(job, worker, lease, f)
        end
        passed = passed + 1
      end
      if passed < 500 then call('DEL', P..':wake:'..queue_of(qk))     -- nothing waits here: no token may
      else wake(queue_of(qk)) end                                     -- enough for one script; there may be more
    end
  end
  if was == 'busy' then call('HSET', RQ..':worker:'..worker, 'state', 'idle') end
  return false
end
