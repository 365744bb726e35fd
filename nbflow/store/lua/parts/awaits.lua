-- Held tasks. One waits before it is queued (hold), or after its attempt, with result and emissions (hold_emits). It has no lease, and its job
-- is in no queue: what ends the wait is a time in the due-set, an event, or somebody. Fields of the job beside the usual ones:
--   status deferred   hold before|after   since   limit: when its timeout is   ends due|timeout|reckon: what its timer means
--   topic: of an OnEvent; it stands in <p>:waits:<topic> as well   ending: data of step.completed; the emissions lie in <p>:held:<job>
--   asks: its hold is asked again when its delay is over
-- What ended a hold lies in <p>:resolved:<run> by task, for all attempts; and there, by `#<job>:<position>`, who resolved it.
local LOG = 500                                                       -- so many events of a topic are kept at most
local asked = {}                                                      -- who is to be told of a wait, when the jobs at hand are made: task, attempt, topic, payload
local logs = {}                                                       -- topics' logs, read once

local function token_of(job, position)                                -- whoever has the secret can make it again: the run's signature is made with it
  local sig, id = call('HGET', rk, 'sig'), job..'.'..position
  return run..'.'..id..'.'..redis.sha1hex(sig..redis.sha1hex(sig..id))
end

local function field_of(value, path)
  for word in string.gmatch(path, '[^.]+') do
    if type(value) ~= 'table' then return nil end
    value = value[word]
  end
  return value
end

local function decoded(text)
  local ok, value = pcall(cjson.decode, text)
  if ok then return value end
end

-- Whether a payload has these values in its dotted fields. wanted: path value, or path and the path of the value in what the task receives.
local function matches(wanted, payload, received)
  for _, m in ipairs(wanted) do
    local found, value = field_of(payload, m[1]), m[2]
    if m[3] then value = field_of(received, m[3]) end
    if found == nil or found ~= value then return false end
  end
  return true
end

local function received_by(job, hold)                                 -- its first payload, where a match asks for it
  if not hold.received then return nil end
  local _, shown = offer(job, call('HMGET', RQ..':job:'..job, 'run', 'task', 'attempt', 'origin', 'key', 'recovered'))
  return shown[1] and decoded(shown[1])
end

local function looked_back(job, hold)                                 -- the first event within its look-back that it waits for
  if not hold.lookback then return nil end
  if not logs[hold.topic] then
    local log = {}
    for i, entry in ipairs(call('XRANGE', P..':topic:'..hold.topic, '-', '+')) do
      log[i] = {ms = tonumber(string.match(entry[1], '^%d+')), text = entry[2][2], value = decoded(entry[2][2])}
    end
    logs[hold.topic] = log
  end
  local from, received = now_ms() - hold.lookback, received_by(job, hold)
  for _, e in ipairs(logs[hold.topic]) do
    if e.ms >= from and matches(hold.match, e.value, received) then return e.text end
  end
end

-- told of a wait: what it is, who may end it, until when
local function told_of(job, position, hold, due, limit, seen)
  local key = call('HGET', RQ..':job:'..job, 'key')
  return '{'..hold.told..(due and ',"dueAt":"'..stamp(due)..'"' or '')..(limit and ',"timeoutAt":"'..stamp(limit)..'"' or '')
    ..(hold.token and ',"token":"'..token_of(job, position)..'"' or '')..(key and ',"key":'..cjson.encode(key) or '')..(seen or '')..'}'
end

local function ask(task, attempt, hold, told)
  if not hold.notify then return end
  asked[#asked + 1] = {task, attempt, hold.notify, '{"run":"'..run..'","task":"'..task..'","attempt":'..attempt..','..string.sub(told, 2)}
end

local function seen_before(job, hold)                                 -- a preview of what the step will receive, for who is to decide
  if not hold.token then return '' end
  local _, shown = offer(job, call('HMGET', RQ..':job:'..job, 'run', 'task', 'attempt', 'origin', 'key', 'recovered'))
  return preview(shown)
end

local function await(job, task, attempt, position, hold, seen)        -- it waits from now on
  local now, jk, ends = now_ms(), RQ..':job:'..job, 'due'
  local at, limit = hold.ms and now + hold.ms, hold.timeout and now + hold.timeout
  event(run, 'await.registered', task, attempt, told_of(job, position, hold, at, limit, seen))
  call('HSET', jk, 'status', 'deferred', 'hold', position, 'since', now)
  if limit then
    call('HSET', jk, 'limit', limit)
    if not at or limit < at then at, ends = limit, 'timeout' end
  end
  if hold.cron then at, ends = now, 'reckon' end
  if at then
    call('HSET', jk, 'ends', ends)
    call('ZADD', P..':timers', at, 'await '..job)
  end
  if hold.topic then
    call('HSET', jk, 'topic', hold.topic)
    call('ZADD', P..':waits:'..hold.topic, call('HINCRBY', P..':topics', '#', 1), job)
  end
  ask(task, attempt, hold, told_of(job, position, hold, at, limit, seen))
end

-- The event was there before: nothing waits, and the stream tells both.
local function told_at_once(job, task, attempt, position, hold, found)
  event(run, 'await.registered', task, attempt, told_of(job, position, hold))
  event(run, 'await.resolved', task, attempt, '{"position":"'..position..'","data":'..found..',"by":{"event":"'..hold.topic..'"}}')
  if position == 'before' then call('HSET', P..':resolved:'..run, task, found) end
end

-- A task is ready, and waits before it is queued. Its queue, if the wait is over already.
local function hold_before(job, task, attempt, queue, key, hold, because)
  local found = looked_back(job, hold)
  if not found then await(job, task, attempt, 'before', hold, seen_before(job, hold)) return nil end
  told_at_once(job, task, attempt, 'before', hold, found)
  enter_queue(job, run, task, attempt, queue, key, priority_of(task), because, limits.text_of(task))
  return queue
end

-- An attempt completed, and its result and emissions wait. Whether they do.
local function hold_after(job, task, attempt, hold, data, emits)
  local found = looked_back(job, hold)
  if found then told_at_once(job, task, attempt, 'after', hold, found) return false end
  call('HDEL', RQ..':job:'..job, 'worker_name', 'lease', 'out', 'nonce')
  call('HSET', RQ..':job:'..job, 'ending', data)
  if #emits > 0 then many('RPUSH', P..':held:'..job, emits) end
  await(job, task, attempt, 'after', hold, hold.token and #data <= 400 and ',"held":'..data or '')
  return true
end
