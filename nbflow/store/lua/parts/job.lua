--! on: limits declined
-- A task's RQ job: made, woken for, leased, read for its worker. A job names data only, nothing importable.
-- What a worker holds is the member <job>:<lease> in RQ's own set of its executions; removing it is the fence.
local function wake(queue)                                            -- a token for one idle worker; never more than 64
  local key = P..':wake:'..queue
  if call('LLEN', key) < 64 then call('RPUSH', key, 1) end
end

local function queue_key(queue) return RQ..':queue:'..QP..queue end
local function queue_of(key) return string.sub(key, #RQ + #QP + 8) end

-- Whether nothing may start in this queue: RQ is suspended, or the queue paused. One command where neither is so.
local stops
local function is_stopped(queue)
  stops = stops or call('EXISTS', RQ..':suspended', P..':paused', P..':lacking', P..':declined')
  return stops > 0 and (call('EXISTS', RQ..':suspended') == 1 or call('SISMEMBER', P..':paused', queue) == 1)
end

local function know_queue(queue)                                      -- to RQ's tools, and as one of this namespace
  call('SADD', RQ..':queues', queue_key(queue))
  call('SADD', P..':queues', queue)
end

-- Jobs with a priority wait in <p>:prio:<queue>, by rank: the best first, of equals the oldest. The next of them stands in RQ's list:
-- before all others if its priority is positive, alone if it is negative. So the list's head is what comes next, whoever takes it, and a
-- queue in which jobs wait has a list that is not empty. (decision 0014)
local LEVEL = 2 ^ 44                                                  -- ranks of one priority; 2^53 is exact

local function prio_key(queue) return P..':prio:'..queue end
local function rank_of(job) return tonumber(call('HGET', RQ..':job:'..job, 'rank') or '0') end

local function lift(queue)                                            -- the best one into the list, if it is the next; whether it was
  local best = call('ZRANGE', prio_key(queue), 0, 0, 'WITHSCORES')
  if not best[1] then return false end
  local qk, rank = queue_key(queue), tonumber(best[2])
  local head = call('LINDEX', qk, 0)
  local before = head and rank_of(head)
  if before and before <= rank then return false end
  if before and rank > 0 then                                         -- a worse one was lifted, for want of others: it goes back
    call('LPOP', qk)
    call('ZADD', prio_key(queue), string.format('%.0f', before), head)
    if call('LLEN', qk) > 0 then return false end
  end
  call('ZREM', prio_key(queue), best[1])
  if call('LPUSH', qk, best[1]) == 1 then know_queue(queue) end
  return true
end

local function put_back(queue, job, rank)                             -- among those that wait by rank
  call('ZADD', prio_key(queue), rank, job)
  lift(queue)
end

local function push_front(queue, job, stays_before)                   -- before all others but those that were lifted
  local qk, i = queue_key(queue), 0
  local head = call('LINDEX', qk, 0)
  while head and (rank_of(head) < 0 or stays_before and i < 20 and stays_before(head)) do
    i = i + 1
    head = call('LINDEX', qk, i)
  end
  if i == 0 then call('LPUSH', qk, job)
  elseif head then call('LINSERT', qk, 'BEFORE', head, job)
  else call('RPUSH', qk, job) end
end

function limits.push(queue, job, rank, seat)                          -- the job that was called; an older one that was called stays before it
  local function is_older(other)
    local f = call('HMGET', RQ..':job:'..other, 'line', 'seat')
    return f[1] and tonumber(f[2]) < tonumber(seat)
  end
  if rank then put_back(queue, job, rank) else push_front(queue, job, is_older) end
  wake(queue)
end

local function job_id(run, task, attempt)
  if string.find(task, '[%[.]') then task = string.gsub(string.gsub(string.gsub(task, '%[', '-'), '%]', ''), '%.', '-') end
  return run..'__'..task..'__attempt-'..attempt
end

local priority_of                                                     -- of a task of the run at hand; see closing

local function job_hash(run, task, attempt, queue, key, at)             -- the job itself, known to its run; in no queue yet
  local job = job_id(run, task, attempt)
  call('HSET', RQ..':job:'..job, 'status', 'queued', 'origin', QP..queue, 'timeout', '-1', 'created_at', at, 'enqueued_at', at,
    'description', task, 'data', DATA, 'run', run, 'task', task, 'attempt', attempt, 'ns', P)
  if key then call('HSET', RQ..':job:'..job, 'key', key) end
  local priority = priority_of(task)
  if priority ~= 0 then call('HSET', RQ..':job:'..job, 'priority', priority) end
  local lim = limits.text_of(task)
  if lim then call('HSET', RQ..':job:'..job, 'lim', lim, 'seat', call('INCR', P..':seats')) end
  call('SADD', P..':open:'..run, job)
  return job
end

local function make_job(run, task, attempt, queue, because, key, at)
  local job = job_hash(run, task, attempt, queue, key, at)
  event(run, 'step.queued', task, attempt, '{"queue":"'..queue..'","because":'..because..(key and ',"key":'..cjson.encode(key) or '')..'}')
  return job
end

local function push_job(queue, job, priority)
  if priority ~= 0 then
    local rank = string.format('%.0f', call('HINCRBY', P..':prio', queue, 1) - priority * LEVEL)
    call('HSET', RQ..':job:'..job, 'rank', rank)
    return put_back(queue, job, rank)
  end
  if call('RPUSH', queue_key(queue), job) == 1 then know_queue(queue) end
end

local function try_later(run, task, attempt, queue, key, delay_ms)      -- the next attempt: its job waits in the due-set
  local job = job_hash(run, task, attempt, queue, key, iso())
  call('HSET', RQ..':job:'..job, 'status', 'scheduled')
  call('ZADD', P..':timers', now_ms() + delay_ms, 'retry '..job)
  return job
end

local function enter_queue(job, run, task, attempt, queue, key, priority, because, lim)     -- a job that was there already, and in no queue
  call('HSET', RQ..':job:'..job, 'status', 'queued', 'enqueued_at', iso())
  if lim then call('HSET', RQ..':job:'..job, 'seat', call('INCR', P..':seats')) end
  push_job(queue, job, priority)
  event(run, 'step.queued', task, attempt, '{"queue":"'..queue..'","because":'..because..(key and ',"key":'..cjson.encode(key) or '')..'}')
end

local function try_now(job)                                             -- its time has come; nothing if it was canceled meanwhile
  local f = call('HMGET', RQ..':job:'..job, 'run', 'task', 'attempt', 'origin', 'key', 'status', 'priority', 'lim')
  if f[6] ~= 'scheduled' then return end
  local queue = string.sub(f[4], #QP + 1)
  enter_queue(job, f[1], f[2], f[3], queue, f[5], tonumber(f[7] or '0'), '["retry"]', f[8])
  wake(queue)
end

local function drop_records(job, lease, queue)                        -- what a beat wrote of a task that ran for long
  call('DEL', RQ..':execution:'..job..':'..lease, RQ..':executions:'..job)
  call('ZREM', RQ..':wip:'..QP..queue, job..':'..lease)
end

local plans = {}                                                      -- fields of plans, decoded; a plan never changes

local function plan_field(pk, field)                                  -- false if it has none
  local facts = plans[pk]
  if not facts then facts = {} plans[pk] = facts end
  local v = facts[field]
  if v == nil then
    v = call('HGET', pk, field)
    v = v and cjson.decode(v) or false
    facts[field] = v
  end
  return v
end

local heads = {}                                                      -- of runs that were read, the fields that do not change

-- what a worker needs of a job. bind: what each subscription of the step receives (see define/plan.py)
local function offer(job, f)
  local run, task = f[1], f[2]
  local rk = P..':run:'..run
  local r = heads[run] or call('HMGET', rk, 'plan', 'bundle', 'sig', 'flow', 'inputdigest', 'queue')
  local step, index = string.match(task, '^([^%[]+)%[?([^%]]*)')
  local p = plan_field(P..':plan:'..r[1], 'step:'..step)
  local out = {job, run, task, f[3], string.sub(f[4], #QP + 1), f[5] or '', f[6] or '0', r[1], r[2], r[3], r[4], r[5], r[6] or '', f[11] or '', p and p.apart and '1' or ''}
  local shown = {}
  local function hand(payload) out[#out + 1] = payload shown[#shown + 1] = payload or 'null' end
  for _, b in ipairs(p and p.bind or {}) do
    if b[1] == 'p' then hand(call('HGET', rk, 'p:'..b[2]))
    elseif b[1] == 'a' then
      local topic = call('HGET', rk, 'y:'..step..':'..b[2])
      out[#out + 1] = topic
      hand(call('HGET', rk, 'p:'..topic))
    elseif b[1] == 'e' then
      for i = 2, #b do hand(call('HGET', P..':emits:'..run..':'..b[i], index)) end
    elseif b[1] == 'i' then hand(call('HGET', rk, 'input'))
    elseif b[1] == 'r' then out[#out + 1] = call('HGET', P..':resolved:'..run, task) end
  end
  return out, shown
end

local function preview(shown)                                         -- what the task receives, where that is short
  local text = table.concat(shown, ',')
  if #shown == 0 or #text > 200 then return '' end
  return ',"input":'..(#shown == 1 and text or '['..text..']')
end

local function lease_out(job, worker, lease, f)
  if f[10] then limits.take(job, lease, string.sub(f[4], #QP + 1), f[10]) end
  call('HSET', RQ..':job:'..job, 'status', 'started', 'worker_name', worker, 'lease', lease)
  call('SADD', RQ..':worker:'..worker..':executions', job..':'..lease)
  local out, shown = offer(job, f)
  event(f[1], 'step.started', f[2], f[3], '{"worker":"'..worker..'"'..preview(shown)..(f[6] and ',"recovered":'..f[6] or '')..'}')
  return out
end

local JOB_FIELDS = {'run', 'task', 'attempt', 'origin', 'key', 'recovered', 'status', 'ns', 'rank', 'lim', 'joins'}

local function held(worker, lease)                                    -- the answer got lost: what this worker holds by this lease, or false
  for _, ex in ipairs(call('SMEMBERS', RQ..':worker:'..worker..':executions')) do
    local job, n = string.match(ex, '^(.-):(.+)$')
    if n == lease then return (offer(job, call('HMGET', RQ..':job:'..job, unpack(JOB_FIELDS)))) end
  end
  return false
end

local function waits(job, f)                                          -- whether it is a job of ours that somebody waits for
  return f[8] == P and f[7] == 'queued' and f[1] and f[2] and f[4] and tonumber(f[3]) and call('SISMEMBER', P..':open:'..f[1], job) == 1
    and call('HGET', P..':run:'..f[1], 'status') == 'running'
end

-- Whether something better came in behind a job of negative priority since that was lifted.
local function comes_too_early(qk, f)
  local rank = tonumber(f[9] or '0')
  local head = rank > 0 and call('LINDEX', qk, 0)
  return head and rank_of(head) < rank
end

-- the next job of a queue of ours, and its fields. Ours that nobody waits for (its run was canceled) is passed over; one of RQ's own or of
-- another namespace is put back, behind. Also says how many were passed over.
local function take_next(queue, qk, passed, worker)
  local lacked = stops > 0 and declined.by(worker)
  if lacked and next(lacked) == nil then lacked = nil end
  local left                                                          -- how many come before the first stranger comes again
  while passed < 500 do
    local job = call('LPOP', qk)
    left = left and left - 1
    local beside = not job or left and left < 0                       -- nothing of ours stands in the list
    if beside then
      if job then call('RPUSH', qk, job) end
      job = call('ZPOPMIN', prio_key(queue))[1]
      if not job then return nil, nil, passed end
    end
    local f = call('HMGET', RQ..':job:'..job, unpack(JOB_FIELDS))
    if waits(job, f) then
      local bundle = lacked and call('HGET', P..':run:'..f[1], 'bundle')
      if bundle and lacked[bundle] then
        declined.put(job, queue, bundle, f[10])
        lift(queue)
        left = left and call('LLEN', qk)
      elseif not beside and comes_too_early(qk, f) then call('ZADD', prio_key(queue), f[9], job)
      elseif not f[10] or limits.admit(job, queue, f[10]) then lift(queue) return job, f, passed
      else
        lift(queue)
        left = left and call('LLEN', qk)
      end
    elseif f[7] and f[8] ~= P then
      left = left or call('LLEN', qk)
      call('RPUSH', qk, job)
    elseif lift(queue) then left = left and left + 1 end
    passed = passed + 1
  end
  return nil, nil, passed
end

-- the next job of these queues, in their order; false if there is none
local function claim_next(worker, queues, lease, was)
  local passed = 0
  for _, qk in ipairs(queues) do
    local queue, job, f = queue_of(qk), nil, nil
    if not is_stopped(queue) then
      if stops > 0 then
        local function fits(one, g) return waits(one, g) and (not g[10] or limits.admit(one, queue, g[10])) end
        job, f, passed = declined.next(worker, queue, passed, JOB_FIELDS, fits)
      end
      if not job then job, f, passed = take_next(queue, qk, passed, worker) end
      if job then
        if was == 'idle' then call('HSET', RQ..':worker:'..worker, 'state', 'busy') end
        return lease_out(job, worker, lease, f)
      end
      if passed < 500 then call('DEL', P..':wake:'..queue) end        -- nothing waits here: no token may
      if passed >= 500 or declined.some then wake(queue) end          -- enough for one script; or there is something for another worker
    end
  end
  if was == 'busy' then call('HSET', RQ..':worker:'..worker, 'state', 'idle') end
  return false
end
