-- Runs of which no outstanding task can go on without somebody acting: nobody serves its queue, the queue is paused or RQ suspended, no worker
-- of it can open the code. (A lease that is over and a timer that is overdue are what the tick at hand sees to.)
-- <p>:stalls has each running run by when it is looked at next. Fields of the run: free: when a look last found a task that can go on;
-- stalled: {"cause", "queue"} since `flow.stalled`. It is said when for `stall` ms there was no event, and no look that found such a task.
local LOOKS = 100                                                     -- runs that a tick looks at, and tasks of them; the rest at the next one
local ENOUGH, SAMPLE = 1000, 500
local AGAIN = 1000                                                    -- a stalled run is looked at each second
local stops_in = {}                                                   -- by queue and bundle: what keeps tasks from starting, or false

local function living_in(queue)                                       -- the workers of a queue
  local found = {}
  for _, key in ipairs(call('SRANDMEMBER', RQ..':workers:'..QP..queue, SAMPLE)) do
    local worker = string.match(key, '[^:]+$')
    if tonumber(call('ZSCORE', P..':workers', worker) or '0') > now_ms() then found[#found + 1] = worker end
  end
  return found
end

local function lacks_code(worker, bundle)
  local ok, map = pcall(cjson.decode, call('HGET', P..':lacking', worker) or '{}')
  local why = ok and map[bundle]
  return why and tonumber(why[1]) > now_ms()
end

local function cause_in(queue, bundle)
  if call('EXISTS', RQ..':suspended') == 1 then return 'suspended' end
  if call('SISMEMBER', P..':paused', queue) == 1 then return 'paused' end
  local workers = living_in(queue)
  if #workers == 0 then return 'no_worker' end
  if not bundle then return false end
  for _, worker in ipairs(workers) do if not lacks_code(worker, bundle) then return false end end
  return 'cannot_open'
end

local function obstacle_of(job)                                       -- nil: it is in no queue; false: it can go on there; else as JSON
  local f = call('HMGET', RQ..':job:'..job, 'status', 'origin', 'declined')
  if f[1] ~= 'queued' or not f[2] then return nil end
  local queue = string.sub(f[2], #QP + 1)
  local place = queue..' '..(f[3] or '')
  if stops_in[place] == nil then
    local cause = cause_in(queue, f[3])
    stops_in[place] = cause and '{"cause":"'..cause..'","queue":"'..queue..'"}'
  end
  return stops_in[place]
end

local function look_for_obstacle(id)                                  -- how many were looked at; what keeps all of them; whether one waits in a queue
  local jobs, first = call('SRANDMEMBER', P..':open:'..id, SAMPLE), nil
  table.sort(jobs)
  for i, job in ipairs(jobs) do
    local told = obstacle_of(job)
    if not told then return i, nil, told == false end
    first = first or told
  end
  return #jobs, first, first ~= nil
end

local function say_stall(id, flow, kind, told)
  event(id, kind, '', 0, told)
  tell(id, flow, kind)
end

local function look_at_run(id, now)                                   -- how many tasks that took
  local r = call('HMGET', rk, 'stalled', 'free', 'flow')
  local after = plan_of('limits').stall
  local last = call('XREVRANGE', P..':flow:'..id, '+', '-', 'COUNT', 1)[1]
  local since = math.max(tonumber(r[2] or '0'), last and tonumber(string.match(last[1], '^%d+')) or 0)
  local soon = math.max(1, math.floor(after / 4))
  local looked, told, is_queued = look_for_obstacle(id)
  local wait = is_queued and soon or after
  if not told then
    call('HSET', rk, 'free', now)
    if r[1] then
      call('HDEL', rk, 'stalled')
      say_stall(id, r[3], 'flow.recovered', r[1])
    end
  elseif r[1] or now - since >= after then
    wait = math.min(soon, AGAIN)
    if not r[1] then
      call('HSET', rk, 'stalled', told)
      say_stall(id, r[3], 'flow.stalled', told)
    end
  end
  call('ZADD', P..':stalls', now + wait, id)
  return looked
end

local function look_at_runs(now)
  local left = ENOUGH
  for _, id in ipairs(call('ZRANGEBYSCORE', P..':stalls', '-inf', now, 'LIMIT', 0, LOOKS)) do
    if left <= 0 then return end
    take(id)
    if status == 'running' and plan_of('limits') and plan_of('limits').stall then left = left - look_at_run(id, now) - 1
    else call('ZREM', P..':stalls', id) end
  end
end
