-- Who can still emit what. Closing travels along the edges, each edge once a run; nothing here grows with the run.
-- Fields of the run's hash, s a step, a a topic, k the number of a subscription, i a cycle:
--   N outstanding tasks   S steps that had tasks or are skipped   o: t: f: outstanding / created / finally failed tasks of s
--   h: satisfied subscriptions of s   y:s:k the topic that satisfied it   l: m: closed topics of a subscription / one of them short
--   e: emissions of a, where the script numbers them   c: closed emitters of a   b: made: elements counted as tasks / made jobs
--   R: reached   Z: z: short   C: d: closed   og: xg: outstanding tasks of a cycle / closed steps that feed it   p: first payload
--   T: tasks of mapped steps, which are what can grow without end   last: nothing runs any more, so that the steps nobody watches close too
--   reuse: tasks are taken over from earlier runs (parts/reuse.lua, parts/cache.lua)   hits: how many were found   anew: none is looked for
-- The plan table (define/plan.py) holds  step:<s>  on:<a>  cycle:<i>  from:<s>  entries  leaves  closed  cycles  steps.
local MOST = 500                                                      -- entries of the worklist that a script does; 1,000 skips at once blocked Redis for 24 ms
local run, rk, pk                                                     -- the run at hand, its hash, its plan
local status, last, queue_of_run, priority_of_run, reuses, anew       -- fields of the run
local doomed                                                          -- why the run must end at once: {reason, step or nil}
local fresh, skipped, delta                                           -- tasks to make; steps to skip; change of N
local met                                                             -- what satisfied the subscriptions that were satisfied now
local work, turns, resumed                                            -- worklist; cycles to look at; whether the worklist is one that was kept

local function take(id)
  run, rk = id, P..':run:'..id
  local f = call('HMGET', rk, 'plan', 'bundle', 'sig', 'flow', 'inputdigest', 'queue', 'status', 'last', 'priority', 'reuse', 'anew')
  pk, queue_of_run, status, last = P..':plan:'..(f[1] or ''), f[6], f[7], f[8]
  priority_of_run, reuses, anew = f[9] and tonumber(f[9]), f[10], f[11]
  fresh, skipped, delta, doomed, met = {}, {}, 0, nil, {}
  heads[id] = f[1] and f or nil
  work, turns, resumed = {}, {}, false
end

local function plan_of(field) return plan_field(pk, field) end

priority_of = function(task)
  local p = not priority_of_run and plan_of('step:'..string.match(task, '^[^%[]+'))
  return priority_of_run or p and p.priority or 0
end

limits.text_of = function(task) return limits.text(run, task, plan_of('step:'..string.match(task, '^[^%[]+'))) end

local function get(f) return call('HGET', rk, f) end
local function num(f) return tonumber(call('HGET', rk, f) or '0') end
local function set(f) call('HSET', rk, f, 1) end
local function inc(f, n) return call('HINCRBY', rk, f, n) end

local function push(what, x, y)
  if what ~= 'cycle' then work[#work + 1] = {what, x, y}
  elseif not turns['c'..x] then turns['c'..x] = 1 turns[#turns + 1] = x end
end

local function ready(s, p) return p.need == 0 or num('h:'..s) == p.need end

local function reached(s, p)
  if num('t:'..s) > 0 then return true end
  if not p.each then return false end
  for _, a in ipairs(p.each) do if not get('R:'..a) then return false end end
  return ready(s, p)
end

local function create(s, p, n)                                        -- n tasks of s became ready; their jobs are made when all is decided
  if n == 0 then return end
  if inc('t:'..s, n) == n then inc('S', 1) end
  if p.w then inc('o:'..s, n) end
  if p.each and inc('T', n) > plan_of('limits').tasks then doomed = {'max_tasks'} end
  if p.w and p.cycle then inc('og:'..p.cycle, n) end
  delta = delta + n
  if not fresh[s] then fresh[#fresh + 1] = s end
  fresh[s] = (fresh[s] or 0) + n
end

local function expand(s, p)
  local n = call('LLEN', P..':order:'..run..':'..p.order) - num('b:'..s)
  if n > 0 then inc('b:'..s, n) create(s, p, n) end
end

local function satisfy(s, k, topic)
  if get('d:'..s) or call('HSETNX', rk, 'y:'..s..':'..k, topic) == 0 then return end
  met[s..':'..k] = topic
  local p = plan_of('step:'..s)
  if p.need > 1 and inc('h:'..s, 1) < p.need then return end
  if p.need == 1 and p.each then call('HSET', rk, 'h:'..s, 1) end
  if p.each then expand(s, p) push('check', s) else create(s, p, 1) end
end

local function finish(s)
  local p = plan_of('step:'..s)
  if num('f:'..s) > 0 then set('z:'..s) end
  local short, was_reached = get('z:'..s), reached(s, p)
  if not was_reached then skipped[#skipped + 1] = {s, short} inc('S', 1) end
  for _, a in ipairs(p.closes or {}) do
    if short then set('Z:'..a) end
    if p.each and was_reached then set('R:'..a) end
    if inc('c:'..a, 1) == plan_of('on:'..a).em then push('close', a) end
  end
  for _, x in ipairs(p.comp or {}) do
    if was_reached and not short then satisfy(x[1], x[2], 'step:'..s) else push('kill', x[1], short) end
  end
  if p.fails then push('close', 'failed:'..s) end
  for _, i in ipairs(p.feeds or {}) do inc('xg:'..i, 1) push('cycle', i) end
end

local function done(s)
  if call('HSETNX', rk, 'd:'..s, 1) == 1 then finish(s) end
end

local function kill(s, short)                                         -- a subscription of s can no longer be satisfied
  if get('d:'..s) then return end
  if short then set('z:'..s) end
  done(s)
end

local function close_for(x, a, short)                                 -- a is closed: what it means for one subscription, x = step k form n
  local s, k, form = x[1], x[2], x[3]
  if get('d:'..s) then return end
  if form == 'e' then
    if short then set('z:'..s) end
    if get('R:'..a) then push('check', s) else push('kill', s, false) end
  elseif form == 'c' or form == 'k' then
    if short and form == 'c' then push('kill', s, true)
    elseif get('R:'..a) then satisfy(s, k, a)
    else push('kill', s, short) end
  elseif form == 'f' and not get('y:'..s..':'..k) then
    if short then set('m:'..s..':'..k) end
    if inc('l:'..s..':'..k, 1) == x[4] then push('kill', s, get('m:'..s..':'..k)) end
  end
end

local function close(a)
  set('C:'..a)
  local short = get('Z:'..a)
  for _, x in ipairs(plan_of('on:'..a).to) do close_for(x, a, short) end
end

local function flow_through(steps)                                    -- an empty map goes all round a cycle before its steps say who was reached
  local through, more = {}, true
  while more do
    more = false
    for _, s in ipairs(steps) do
      local p = plan_of('step:'..s)
      if p.each and not through[s] and reached(s, p) then
        through[s], more = true, true
        for _, a in ipairs(p.closes or {}) do set('R:'..a) end
      end
    end
  end
end

local function cycle(i)                                               -- the steps of a cycle close together
  local p = plan_of('cycle:'..i)
  if not p.w and not last then return end
  if num('og:'..i) > 0 or num('xg:'..i) < p.ext then return end
  local open, short = {}, false
  for _, m in ipairs(p.members) do
    if num('f:'..m) > 0 or get('z:'..m) then short = true end
    if not get('d:'..m) then open[#open + 1] = m end
  end
  for _, m in ipairs(open) do set('d:'..m) if short then set('z:'..m) end end
  flow_through(open)
  for _, m in ipairs(open) do finish(m) end
end

local function check(s)
  local p = plan_of('step:'..s)
  if not p.w and not last then return end                             -- its outstanding tasks are not counted: it closes when nothing runs any more
  if get('d:'..s) or num('o:'..s) > 0 then return end
  if not p.each then
    if num('t:'..s) > 0 then done(s) end
  else
    local all = ready(s, p)
    for _, a in ipairs(p.each) do all = all and get('C:'..a) end
    if all then done(s) end
  end
  if p.cycle then push('cycle', p.cycle) end
end

-- What a script cannot do any more lies in <p>:left:<run>, the cycles in <p>:turns:<run>, until a slice does it. All of it together is
-- one outstanding task in N. Returns whether there was anything.
local function keep(from)
  local texts = {}
  for i = from, #work do texts[#texts + 1] = work[i][1]..' '..work[i][2]..(work[i][3] and ' short' or '') end
  for i = 1, #texts, 4000 do call('RPUSH', P..':left:'..run, unpack(texts, i, math.min(i + 3999, #texts))) end
  for _, i in ipairs(turns) do call('RPUSH', P..':turns:'..run, i) end
  local some = #texts > 0 or #turns > 0
  work, turns = {}, {}
  return some
end

local function resume()                                               -- the next of what was kept; the cycles when it is the last
  local left = P..':left:'..run
  for _, text in ipairs(call('LPOP', left, MOST) or {}) do
    local what, x, short = string.match(text, '^(%S+) (%S+) ?(%S*)$')
    push(what, x, short ~= '' and short or nil)
  end
  resumed = true
  if call('EXISTS', left) == 1 then return end
  for _, i in ipairs(call('LRANGE', P..':turns:'..run, 0, -1)) do push('cycle', i) end
  call('DEL', P..':turns:'..run)
end

-- Kill and close lie on a list, not on the stack. A cycle is looked at when nothing else is left: what is on the list may make it short.
local function drain()
  if #work == 0 and #turns == 0 and not resumed then return end
  local behind = call('EXISTS', P..':left:'..run, P..':turns:'..run) > 0
  if behind and not resumed then keep(1) return end                   -- what was kept comes first
  local act = {check = check, close = close, kill = kill}
  local i, done_now = 1, 0
  while done_now < MOST do
    local w = work[i]
    if w then
      i = i + 1
      act[w[1]](w[2], w[3])
    elseif turns[1] and not behind then
      local turn = table.remove(turns, 1)
      turns['c'..turn] = nil
      cycle(turn)
    else break end
    done_now = done_now + 1
  end
  local more = keep(i) or behind
  if more and not resumed then delta = delta + 1 elseif resumed and not more then delta = delta - 1 end
  if more then call('RPUSH', P..':slices', run..' *close') end
  resumed = false
end
