-- Emissions in, ready tasks and the end of the run out. Order of events: the end of the step (written by the caller),
-- emit in order of calls, step.queued in plan order, step.skipped, flow.*
local SLICE = 500                                                     -- jobs a script makes or removes at most; 10,000 at once blocked Redis for 120 ms

local function meet(x, indexes)                                       -- each(a, b): an index is a task when every topic has come for it
  local p, both = plan_of('step:'..x), {}
  for _, index in ipairs(indexes) do
    local field = x..'['..index..']'
    if call('HINCRBY', P..':meet:'..run, field, 1) == #p.each then
      call('HDEL', P..':meet:'..run, field)
      both[#both + 1] = index
    end
  end
  if #both > 0 then many('RPUSH', P..':order:'..run..':'..p.order, both) end
end

local function store(topic, on, pairs_)                               -- payloads for those who come for them later
  local indexes = {}
  if on.numbered then
    local first = inc('e:'..topic, #pairs_ / 2) - #pairs_ / 2
    for i = 1, #pairs_, 2 do pairs_[i] = tostring(first + (i - 1) / 2) end
  end
  for i = 1, #pairs_, 2 do indexes[#indexes + 1] = pairs_[i] end
  if #pairs_ > 0 then
    if on.first then call('HSETNX', rk, 'p:'..topic, pairs_[2]) end
    if on.keep then many('HSET', P..':emits:'..run..':'..topic, pairs_) end
    if on.order then many('RPUSH', P..':order:'..run..':'..topic, indexes) end
    if reuses and on.keep then add_to_sum(topic, pairs_) end
  end
  return indexes
end

local function tell_emit(task, attempt, topic, mode, text, pairs_)
  if mode == 'one' then
    local index = pairs_[1] ~= '' and ',"index":"'..pairs_[1]..'"' or ''
    event(run, 'emit', task, attempt, '{"name":"'..topic..'","payload":'..pairs_[2]..index..'}')
  elseif mode == 'many' then
    event(run, 'emit', task, attempt, '{"name":"'..topic..'","count":'..(#pairs_ / 2)..',"payload":'..text..'}')
  end
end

local function emit(task, attempt, topic, mode, text, pairs_)
  if mode == 'start' then children.start(task, attempt, topic, pairs_) return end
  if mode == 'keep' then return end                                   -- what parts/cache.lua is told
  if mode == 'key' then                                               -- names for elements: topic is the step that will take them
    for i = 1, #pairs_, 2 do pairs_[i] = topic..'['..pairs_[i]..']' end
    many('HSET', P..':keys:'..run, pairs_)
    return
  end
  local on = plan_of('on:'..topic)
  if not on then tell_emit(task, attempt, topic, mode, text, pairs_) return end
  if on.closing then set('R:'..topic) end
  local indexes = store(topic, on, pairs_)
  tell_emit(task, attempt, topic, mode, text, pairs_)
  for _, x in ipairs(on.to) do
    local p = plan_of('step:'..x[1])
    if x[3] == 'e' then
      if #p.each > 1 then meet(x[1], indexes) end
      if not get('d:'..x[1]) and ready(x[1], p) then expand(x[1], p) end
    elseif x[3] == 'f' and #pairs_ > 0 then satisfy(x[1], x[2], topic) end
  end
end

-- groups of the settling worker: topic mode text n (index payload)*n
local function apply(task, attempt, list)
  local i = 1
  while list[i] do
    local n, pairs_ = tonumber(list[i + 3]), {}
    for j = 1, 2 * n do pairs_[j] = list[i + 3 + j] end
    emit(task, attempt, list[i], list[i + 1], list[i + 2], pairs_)
    i = i + 4 + 2 * n
  end
end

local function because_of(s, p)
  local topics = {}
  for k = 1, p.need do topics[k] = met[s..':'..k] or get('y:'..s..':'..k) or '?' end
  for _, a in ipairs(p.each or {}) do topics[#topics + 1] = a end
  return strings(topics)
end

local function put(s, p, index, at, mine)                             -- one job; the settling worker takes it at once if nothing waits before it
  local task = index == '' and s or s..'['..index..']'
  local before = reuses and (rank_before(s, p, index, task) or p.cache and find_end(s, p, index, task))
  if before then call('ZADD', P..':again:'..run, before, task) return nil end
  local key = p.key and call('HGET', P..':keys:'..run, task)
  local queue = queue_of_run or p.queue
  if p.hold then return hold_before(job_hash(run, task, 1, queue, key, at), task, 1, queue, key, p.hold, because_of(s, p)) end
  local job = make_job(run, task, 1, queue, because_of(s, p), key, at)
  if mine and not mine.job and not p.lim and queue == mine.queue and call('LLEN', queue_key(queue)) == 0 then
    mine.job, mine.fields = job, {run, task, '1', QP..queue, key, false}
    return nil
  end
  push_job(queue, job, priority_of(task))
  return queue
end

local function make_slice(s, p, limit, at, mine, queues)              -- the next jobs of a map, in index order; how many were made
  local from = num('made:'..s)
  local indexes = call('LRANGE', P..':order:'..run..':'..p.order, from, math.min(from + limit, num('b:'..s)) - 1)
  for _, index in ipairs(indexes) do queues[#queues + 1] = put(s, p, index, at, mine) end
  inc('made:'..s, #indexes)
  return #indexes
end

local function differ_in_priority(steps)
  for i = 2, #steps do if priority_of(steps[i]) ~= priority_of(steps[1]) then return true end end
end

local function is_under_way(s, p)                                      -- its tasks are being made already, in their order
  return p.each and num('b:'..s) - num('made:'..s) ~= fresh[s]
end

local function remember_fresh()                                       -- of a run that takes over: take_over makes them
  for _, s in ipairs(fresh) do
    if not is_under_way(s, plan_of('step:'..s)) then call('RPUSH', P..':making:'..run, s) end
  end
  fresh = {}
end

local function make_fresh(mine, queues)                               -- jobs of what became ready: 500 now, the rest counted for the slices that follow
  if #fresh == 0 then return end
  table.sort(fresh, function(a, b) return plan_of('step:'..a).pos < plan_of('step:'..b).pos end)
  if reuses then remember_fresh() return end
  if differ_in_priority(fresh) then mine = nil end                    -- the claim that follows takes the best
  local at, left = iso(), SLICE
  for _, s in ipairs(fresh) do
    local p = plan_of('step:'..s)
    if not p.each then
      if left > 0 then queues[#queues + 1] = put(s, p, '', at, mine) left = left - 1
      else call('RPUSH', P..':slices', run..' '..s) end
    elseif not is_under_way(s, p) then
      if left > 0 then left = left - make_slice(s, p, left, at, mine, queues) end
      if num('made:'..s) < num('b:'..s) then call('RPUSH', P..':slices', run..' '..s) end
    end
  end
  fresh = {}
end

local function skip_events()
  table.sort(skipped, function(a, b) return plan_of('step:'..a[1]).pos < plan_of('step:'..b[1]).pos end)
  for _, x in ipairs(skipped) do
    event(run, 'step.skipped', x[1], 0, x[2] and '{"reason":"short"}' or '{"reason":"not_taken"}')
  end
  skipped = {}
end

local function unhandled()                                            -- the first step whose failure nobody answered for
  for s in string.gmatch(get('fails') or '', '%S+') do
    local n = get('handled:'..s)
    if not n or n ~= 'all' and tonumber(n) < num('f:'..s) then return s end
  end
end

local function end_run()                                              -- nothing is outstanding
  local bad = unhandled()
  if bad then
    close_run('failed', 'flow.failed', ',"failedStep":"'..bad..'","reason":"step",'..get('error:'..bad))
  else
    local leaves = {}
    for _, s in ipairs(plan_of('leaves')) do
      if num('f:'..s) == 0 and reached(s, plan_of('step:'..s)) then leaves[#leaves + 1] = s end
    end
    close_run('completed', 'flow.completed', ',"leaves":'..strings(leaves))
  end
end

local SAYS = {deadline = 'the run passed its deadline', max_tasks = 'the run passed its number of tasks'}
local function end_now()                                              -- like a cancel, as a failure: what is unfinished is removed in slices
  local reason, step = doomed[1], doomed[2]
  local told = step and '"failedStep":"'..step..'",'..get('error:'..step) or '"error":"'..SAYS[reason]..'"'
  close_run('failed', 'flow.failed', ',"reason":"'..reason..'",'..told)
  if cancel_slice(run) then call('RPUSH', P..':slices', run..' *cancel') end
  interrupt_revoked()
  fresh, skipped, work, turns, delta, doomed = {}, {}, {}, {}, 0, nil
end

local function said_of(data)                                          -- the error in the data of a step.failed, as JSON. Nothing may raise here any more
  local ok, d = pcall(cjson.decode, data)
  return cjson.encode(ok and type(d.error) == 'string' and d.error or 'the step failed')
end

-- a task ended for good: count it out. failed: the data of its step.failed, or nil. canceled: by hand, so that nobody need answer for it
local function count_out(s, p, task, failed, canceled)
  if canceled then
    inc('f:'..s, 1)                                                   -- what it would have given is missing
  elseif failed then
    inc('f:'..s, 1)
    if call('HSETNX', rk, 'error:'..s, '"task":"'..task..'","error":'..said_of(failed)) == 1 then
      call('HSET', rk, 'fails', (get('fails') or '')..' '..s)
      if plan_of('limits').cancel and not plan_of('on:failed:'..s) then doomed = {'step', s} end
    end
  else
    for _, x in ipairs(p.handles or {}) do call('HSET', rk, 'handled:'..x, 'all') end
    for _, x in ipairs(p.keeps or {}) do                              -- it took those there were; a later one it never saw
      local n = num('f:'..x)
      if n > 0 and get('handled:'..x) ~= 'all' then call('HSET', rk, 'handled:'..x, n) end
    end
  end
  delta = delta - 1
  if p.w and p.cycle then inc('og:'..p.cycle, -1) end
  if p.w and inc('o:'..s, -1) == 0 then push('check', s) end
end

local function without(field, steps)                                  -- those steps for which the run has no such field
  local found = {}
  for i = 1, #steps, 4000 do
    local fields = {}
    for j = i, math.min(i + 3999, #steps) do fields[#fields + 1] = field..steps[j] end
    for j, value in ipairs(call('HMGET', rk, unpack(fields))) do
      if not value then found[#found + 1] = steps[i + j - 1] end
    end
  end
  return found
end

local function check_for_idle()                                       -- the steps that had no task, and those before them whose end decides why
  for _, i in ipairs(plan_of('cycles')) do push('cycle', i) end
  local front, seen = without('d:', without('t:', plan_of('steps'))), {}
  local idle = #front
  if idle > MOST / 2 then                                             -- so many that looking for them costs more than a look at all
    for _, s in ipairs(plan_of('steps')) do push('check', s) end
    return
  end
  for _, s in ipairs(front) do seen[s] = 1 end
  local i = 1
  while front[i] do
    local s = front[i]
    local p = plan_of('step:'..s)
    if i > idle or p.each then push('check', s) end
    if i <= idle or p.each or p.cycle then
      for _, x in ipairs(plan_of('from:'..s) or {}) do
        if not seen[x] then seen[x] = 1 front[#front + 1] = x end
      end
    end
    i = i + 1
  end
end

local function announce()                                             -- those that are told of a wait, by an emission of the task that waits
  local now = asked
  asked = {}
  for _, a in ipairs(now) do emit(a[1], a[2], a[3], 'one', '', {'', a[4]}) end
end

local END_COSTS = 5                                                   -- applying an end costs as much as making so many jobs, and so does looking for one

local function end_as_before(task)                                    -- a settle without a worker
  local s = string.match(task, '^[^%[]+')
  local p, kept = plan_of('step:'..s), P..':reuse:'..run
  local data, emits, moves = unpack(cjson.decode(string.match(call('HGET', kept, task), '^%d+ %x+ (.*)$')))
  if moves then moved(emits, '', string.match(task, '%[(.*)%]') or '') end
  local key = p.key and call('HGET', P..':keys:'..run, task)
  if key then data = string.sub(data, 1, -2)..',"key":'..cjson.encode(key)..'}' end
  call('HDEL', kept, task)
  event(run, 'step.completed', task, 1, data)
  apply(task, 1, emits)
  count_out(s, p, task, nil)
end

local function make_waiting(s, limit, queues)                         -- of the first step in line; how many were made
  local p = plan_of('step:'..s)
  local made = p.cache and END_COSTS or 1
  if p.each then made = made * make_slice(s, p, math.ceil(limit / made), iso(), nil, queues)
  else queues[#queues + 1] = put(s, p, '', iso(), nil) end
  if not p.each or num('made:'..s) >= num('b:'..s) then call('LPOP', P..':making:'..run) end
  return made
end

-- Tasks first, then the next end: only then is it sure which was the first. What a script cannot do is left for a slice.
local function take_over(queues)
  local ends, making, did = P..':again:'..run, P..':making:'..run, 0
  if get('reusing') then return end
  while did < SLICE and not doomed and call('EXISTS', P..':left:'..run, P..':turns:'..run) == 0 do
    local s = call('LINDEX', making, 0)
    if s then did = did + make_waiting(s, SLICE - did, queues)
    else
      if #asked > 0 then announce()                                    -- as where nothing is taken over: before anything else ends
      else
        local task = call('ZPOPMIN', ends)[1]
        if not task then return end
        did = did + END_COSTS
        end_as_before(task)
      end
      drain()
      make_fresh(nil, queues)
    end
  end
  if doomed or call('EXISTS', ends, making) == 0 then return end
  set('reusing')
  call('RPUSH', P..':slices', run..' *reuse')
  wake(queue_of_run or plan_of('step:'..plan_of('steps')[1]).queue)    -- there may be nobody who looks
end

local function follow(mine, queues)                                   -- whether the run goes on
  repeat
    announce()
    if not doomed then drain() end
    if doomed then end_now() return false end
    make_fresh(mine, queues)
    if reuses then take_over(queues) end
    if doomed then end_now() return false end
  until #asked == 0
  return true
end

-- all that follows from it. Returns the queues that got a job, one entry a job.
local function advance(mine)
  local queues = {}
  if not follow(mine, queues) then return queues end
  if #skipped > 0 then skip_events() end
  local left = (delta ~= 0 or reuses) and inc('N', delta) or 1
  if left == 0 and not last and num('S') < #plan_of('steps') then     -- some step had no task: let what nobody watched close now
    last, delta = 1, 0
    set('last')
    check_for_idle()
    if not follow(mine, queues) then return queues end
    skip_events()
    left = inc('N', delta)
  end
  delta = 0
  if left == 0 then end_run() end
  return queues
end
