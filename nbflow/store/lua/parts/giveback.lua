-- A worker is gone: what it held goes back to the front of its queue, and its registration at RQ ends.
-- A task that lost its worker more than max_recoveries times fails for good, with the cause.
local MAX_RECOVERIES = 3

local function index_value(index)                                     -- what a failed(...) subscriber receives: null, 3, or the tuple (3, 1)
  if index == '' or string.match(index, '^%d+$') then return index == '' and 'null' or index end
  return '{"$t":"tuple","v":['..string.gsub(index, '%.', ',')..']}'
end

local function fail(job, f, said, reason)                              -- f: run task attempt origin lease recovered key. The attempt failed for good
  local step = string.match(f[2], '^[^%[]+')
  local p, text = plan_of('step:'..step), cjson.encode(said)
  if not p then call('DEL', RQ..':job:'..job) return end              -- none of the plan's: somebody forged it
  local data = '{"error":'..text..',"traceback":"","reason":"'..reason..'"}'
  call('DEL', RQ..':job:'..job, P..':held:'..job)
  call('SREM', P..':open:'..f[1], job)
  event(f[1], 'step.failed', f[2], f[3], data)
  if p.fails then
    local index = string.match(f[2], '%[(.*)%]') or ''
    local payload = '{"error":'..text..',"traceback":"","attempt":'..f[3]..',"index":'..index_value(index)..',"key":'..(f[7] and cjson.encode(f[7]) or 'null')..',"input":null}'
    emit(f[2], f[3], 'failed:'..step, 'silent', '', {index == '' and '0' or index, payload})
  end
  count_out(step, p, f[2], data)
  for _, name in ipairs(advance(nil)) do wake(name) end
end

-- It was killed because it took longer than its timeout and could not be interrupted: an attempt that failed, under its policy.
local function time_out(job, f, queue)
  local said, attempt = 'the step took longer than its timeout, and had to be killed', tonumber(f[3])
  local policy = (plan_of('step:'..string.match(f[2], '^[^%[]+')) or {}).retry   -- {most attempts, back-off, longest delay}, in ms
  if not policy or attempt >= policy[1] then fail(job, f, said, 'timeout') return end
  local delay = math.min(policy[2] * 2 ^ math.min(attempt - 1, 30), policy[3])
  call('DEL', RQ..':job:'..job, P..':held:'..job)
  call('SREM', P..':open:'..f[1], job)
  event(f[1], 'step.retry', f[2], attempt, '{"error":'..cjson.encode(said)..',"traceback":"","reason":"timeout","delay":'..delay..',"nextAttempt":'..(attempt + 1)..',"maxAttempts":'..policy[1]..'}')
  try_later(f[1], f[2], attempt + 1, queue, f[7], delay)
end

local function requeue(job, f, queue, cause)
  local n = call('HINCRBY', RQ..':job:'..job, 'recovered', 1)
  call('HSET', RQ..':job:'..job, 'status', 'queued', 'worker_name', '', 'enqueued_at', iso())
  call('HDEL', RQ..':job:'..job, 'out', 'nonce', 'lease')
  if f[8] then put_back(queue, job, f[8]) else push_front(queue, job) end
  event(f[1], 'step.queued', f[2], f[3], '{"queue":"'..queue..'","recovered":'..n..(cause ~= '' and ',"cause":'..cjson.encode(cause) or '')..'}')
  wake(queue)
end

local function give_back_one(job, lease, cause, who)                   -- who died. Whether the task came back, or failed
  local f = call('HMGET', RQ..':job:'..job, 'run', 'task', 'attempt', 'origin', 'lease', 'recovered', 'key', 'rank', 'lim')
  if f[9] then limits.free(job, lease, f[9]) end
  if f[5] ~= lease or call('HGET', P..':run:'..f[1], 'status') ~= 'running' then return false end     -- a slice of its cancel removes it
  local queue = string.sub(f[4], #QP + 1)
  drop_records(job, lease, queue)
  take(f[1])
  if string.sub(cause, 1, 7) == 'timeout' then time_out(job, f, queue)
  elseif string.sub(cause, 1, 7) == 'stopped' then fail(job, f, 'the task was stopped', 'stopped')
  elseif tonumber(f[6] or '0') < MAX_RECOVERIES then requeue(job, f, queue, cause)
  else fail(job, f, who..' died '..(f[6] + 1)..' times while it ran'..(cause ~= '' and ' (last: '..cause..')' or ''), 'lost') end
  return true
end

local function give_back(worker, cause)
  local wk, back = RQ..':worker:'..worker, {}
  for _, ex in ipairs(call('SMEMBERS', wk..':executions')) do
    local job, lease = string.match(ex, '^(.-):(.+)$')
    if give_back_one(job, lease, cause, 'the worker') then back[#back + 1] = job end
  end
  call('DEL', wk..':executions')
  call('HDEL', P..':lacking', worker)
  call('ZREM', P..':workers', worker)                                 -- from here on every late settle of this worker is stale
  for name in string.gmatch(call('HGET', wk, 'queues') or '', '[^,]+') do
    call('SREM', RQ..':workers:'..name, wk)
    if call('LLEN', RQ..':queue:'..name) > 0 or call('EXISTS', P..':slices') == 1 then wake(string.sub(name, #QP + 1)) end       -- it may have taken a token with it
  end
  call('SREM', RQ..':workers', wk)
  call('DEL', wk)
  return back
end
