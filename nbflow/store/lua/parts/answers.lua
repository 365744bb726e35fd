-- The end of a wait, whoever ends it: exactly one does, for it is taken out of where it waits in the same breath.
local GIVEN = 100                                                     -- tasks that a script offers an event to; one it resolves may cost as much as a settle

-- the job if it waits, as a table, with its run at hand; else nothing
local function awaited(job)
  local jk = RQ..':job:'..job
  local f = call('HMGET', jk, 'run', 'task', 'attempt', 'origin', 'lease', 'recovered', 'key', 'rank', 'hold', 'status', 'limit')
  if f[10] ~= 'deferred' or not f[9] then return nil end
  take(f[1])
  if status ~= 'running' then return nil end                          -- a slice of its cancel removes it
  local step = string.match(f[2], '^[^%[]+')
  local p = plan_of('step:'..step)
  local hold = p and (f[9] == 'before' and p.hold or f[9] == 'after' and p.after)
  if not hold then return nil end
  return {fields = f, run = f[1], task = f[2], attempt = tonumber(f[3]), queue = string.sub(f[4], #QP + 1), key = f[7], position = f[9],
    limit = tonumber(f[11] or nil), step = step, plan = p, hold = hold}
end

local function go_on(job, w, payload)                                 -- the wait is over, and the task goes on with what ended it
  unhold(job)
  if w.position == 'before' then
    call('HSET', P..':resolved:'..run, w.task, payload)
    enter_queue(job, run, w.task, w.attempt, w.queue, w.key, priority_of(w.task), w.attempt > 1 and '["retry"]' or because_of(w.step, w.plan),
      limits.text_of(w.task))
    wake(w.queue)
    return
  end
  local data, emits = call('HGET', RQ..':job:'..job, 'ending'), call('LRANGE', P..':held:'..job, 0, -1)
  call('DEL', RQ..':job:'..job, P..':held:'..job)
  call('SREM', P..':open:'..run, job)
  event(run, 'step.completed', w.task, w.attempt, data)
  if w.plan.cache then keep_end(w.step, w.plan, w.task, data, emits) end
  apply(w.task, w.attempt, emits)
  count_out(w.step, w.plan, w.task, nil)
  for _, name in ipairs(advance(nil)) do wake(name) end
  children.begin()
end

local function answer(job, w, payload, by)
  event(run, 'await.resolved', w.task, w.attempt, '{"position":"'..w.position..'","data":'..payload..',"by":'..by..'}')
  go_on(job, w, payload)
end

local function ask_again(job, w, said)                                -- a failed attempt; the next one waits anew
  local most, backoff, longest = unpack(w.plan.retry)
  local delay = math.min(backoff * 2 ^ math.min(w.attempt - 1, 30), longest)
  call('DEL', RQ..':job:'..job, P..':held:'..job)
  call('SREM', P..':open:'..run, job)
  event(run, 'step.retry', w.task, w.attempt, '{"error":'..cjson.encode(said)..',"traceback":"","reason":"await_timeout","delay":'..delay
    ..',"nextAttempt":'..(w.attempt + 1)..',"maxAttempts":'..most..'}')
  local next = try_later(run, w.task, w.attempt + 1, w.queue, w.key, delay)
  if w.position == 'before' then call('HSET', RQ..':job:'..next, 'asks', 1) end
end

local function over_time(job, w)
  local action = w.hold.on
  if action == 'retry' and (not w.plan.retry or w.attempt >= w.plan.retry[1]) then action = 'fail' end
  event(run, 'await.timeout', w.task, w.attempt, '{"position":"'..w.position..'","action":"'..action..'"}')
  if action == 'continue' then return go_on(job, w, 'null') end
  unhold(job)
  local said = 'nobody answered within the timeout of '..(w.position == 'before' and 'hold=' or 'hold_emits=')
  if action == 'retry' then return ask_again(job, w, said) end
  call('DEL', P..':held:'..job)
  fail(job, w.fields, said, 'await_timeout')
end

local RECKONED_WITHIN = 5000                                          -- ms; after that the question is asked again
-- The timer of a wait: its time has come. What needs a calendar goes to who called (see reckon).
local function await_due(job, now, reckon)
  local w = awaited(job)
  if not w then return end
  local ends, since = unpack(call('HMGET', RQ..':job:'..job, 'ends', 'since'))
  if ends == 'timeout' then over_time(job, w)
  elseif ends == 'due' then answer(job, w, 'null', '{"timer":true}')
  elseif w.hold.cron then
    call('ZADD', P..':timers', now + RECKONED_WITHIN, 'await '..job)
    reckon[#reckon + 1] = {job, since, w.hold.cron, w.hold.tz}
  end
end

local function set_due(job, w, at)                                    -- the occurrence that a task waits for, or its timeout if that comes before
  local ends = 'due'
  if w.limit and w.limit < at then at, ends = w.limit, 'timeout' end
  call('HSET', RQ..':job:'..job, 'ends', ends)
  call('ZADD', P..':timers', at, 'await '..job)
end

local function again(job)                                             -- the delay of an attempt is over
  local f = call('HMGET', RQ..':job:'..job, 'run', 'task', 'attempt', 'origin', 'key', 'status', 'asks')
  if not f[7] or f[6] ~= 'scheduled' then return try_now(job) end
  take(f[1])
  if status ~= 'running' then return end
  local queue, p = string.sub(f[4], #QP + 1), plan_of('step:'..string.match(f[2], '^[^%[]+'))
  call('HDEL', RQ..':job:'..job, 'asks')
  local name = hold_before(job, f[2], f[3], queue, f[5], p.hold, '["retry"]')
  if name then wake(name) end
  for _, other in ipairs(advance(nil)) do wake(other) end             -- who is told of it
end

-- An event, to those that wait for it: the next of them, in the order in which they came. How many it resolved; where to go on, if more are left.
local function give(topic, payload, from, upto)
  local key, value, resolved = P..':waits:'..topic, decoded(payload), 0
  local rows = call('ZRANGEBYSCORE', key, '('..from, upto, 'WITHSCORES', 'LIMIT', 0, GIVEN)
  for i = 1, #rows, 2 do
    local w = awaited(rows[i])
    if w and matches(w.hold.match, value, received_by(rows[i], w.hold)) then
      answer(rows[i], w, payload, '{"event":"'..topic..'"}')
      resolved = resolved + 1
    end
  end
  return resolved, #rows == 2 * GIVEN and rows[#rows] or nil
end
