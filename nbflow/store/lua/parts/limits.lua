-- Concurrency and Rate: how many tasks of a step or a flow hold a lease at once, and how many start within a time, over all its runs.
-- A job's field `lim` names its limits, <id>,<n>[,<ms>] each. <p>:limit:<id> holds what counts: of a concurrency (id c:…) the leases, of a
-- rate (r:…) the starts of the last ms. A slot is a lease: what takes and ends leases keeps the set, and nothing else does.
-- A task over a limit is put aside: into the line <p>:aside:<id>:<queue>, by priority and age (`seat`); `line` says of which limit.
-- <p>:lines:<id> has the lines, and for each the job that was called, or ''. Called is the first of a line when there is room: it is put to
-- the head of its queue, and stays first in line until somebody claims it. One call a line at a time keeps the order.
-- The law: beside each line the limit is used up, or a call is out. So whatever gives room calls. (decision 0016)
local limits = {due = false}                                          -- due: in how many ms there is room again, for the worker, who ticks then

function limits.of(text)
  local list = {}
  for id, n, ms in string.gmatch(text or '', '([^,%s]+),(%d+),?(%d*)') do list[#list + 1] = {id = id, n = tonumber(n), ms = tonumber(ms)} end
  return list
end

local function among(text, id)
  for _, l in ipairs(limits.of(text)) do if l.id == id then return l end end
end

local function used_up(l)
  local key = P..':limit:'..l.id
  if not l.ms then return call('SCARD', key) >= l.n end
  call('ZREMRANGEBYSCORE', key, '-inf', now_ms() - l.ms)
  return call('ZCARD', key) >= l.n
end

local function wait_for_rate(l)                                       -- until so many of its starts are so long ago that there is room
  if not l.ms then return end
  local key = P..':limit:'..l.id
  local last = call('ZREVRANGE', key, l.n - 1, l.n - 1, 'WITHSCORES')[2]
  local due, now = tonumber(last or '0') + l.ms, now_ms()
  call('ZADD', P..':timers', due, 'rate '..l.id)
  limits.due = math.min(limits.due or due - now, math.max(0, due - now))
end

local function is_keyed(id) return string.find(id, ':[=#~][^:]*$') ~= nil end
local function is_flows(id) return string.find(id, '^c:[^:]*$') ~= nil end

-- The line of a job. All of a line have the same other limits but keyed ones, where that can be: a flow's key has lines by step.
local function line_of(id, queue, job)
  if not string.find(id, '^c:[^:]*::') then return queue end
  return queue..'/'..string.match(call('HGET', RQ..':job:'..job, 'task') or '', '^[^%[]*')
end
local function line_key(id, line) return P..':aside:'..id..':'..line end

local function call_next(id, line)                                    -- nobody is called there. Whether there was anybody
  local key, lines, queue = line_key(id, line), P..':lines:'..id, string.match(line, '^[^/]+')
  for _ = 1, 500 do
    local job = call('ZRANGE', key, 0, 0)[1]
    if not job then call('HDEL', lines, line) return false end
    local f = call('HMGET', RQ..':job:'..job, 'lim', 'status', 'rank', 'seat')
    local l = f[2] == 'queued' and among(f[1], id)
    if not l then call('ZREM', key, job)                              -- somebody else deleted the job
    elseif used_up(l) then
      call('HSET', lines, line, '')
      wait_for_rate(l)
      return true
    else
      call('HSET', lines, line, job)
      limits.push(queue, job, f[3], f[4])
      return true
    end
  end
end

local function first_score(id, line) return tonumber(call('ZRANGE', line_key(id, line), 0, 0, 'WITHSCORES')[2] or 'inf') end

-- There may be room: call the best of those who wait in each queue, unless somebody is called there. One that was called counts while it
-- lies in its queue; not if it was put aside again (by another limit), or has just gone. no_line: all in it wait for another limit.
function limits.call(id, gone, no_line)
  local lines, idle, out = call('HGETALL', P..':lines:'..id), {}, {}
  for i = 1, #lines, 2 do
    local line, called = lines[i], lines[i + 1]
    local queue = string.match(line, '^[^/]+')
    if called ~= '' and called ~= gone and call('HGET', RQ..':job:'..called, 'line') == id then out[queue] = true
    elseif line ~= no_line then idle[#idle + 1] = line end
  end
  local scores, is_one = {}, #idle == 1 and next(out) == nil
  for _, line in ipairs(idle) do scores[line] = is_one and 0 or first_score(id, line) end
  table.sort(idle, function(one, other) return scores[one] < scores[other] end)
  for _, line in ipairs(idle) do
    local queue = string.match(line, '^[^/]+')
    if scores[line] == math.huge then call('HDEL', P..':lines:'..id, line)      -- its last one has gone
    elseif not out[queue] then out[queue] = call_next(id, line) end
  end
end

local function seat_of(f)                                             -- best first: as ranks in a queue
  return string.format('%.0f', tonumber(f[2] or '0') - tonumber(f[3] or '0') * 2 ^ 44)
end

local function aside(job, queue, list, over)
  local jk, line = RQ..':job:'..job, line_of(over.id, queue, job)
  local f = call('HMGET', jk, 'line', 'seat', 'priority')
  if f[1] ~= over.id then
    if f[1] then call('ZREM', line_key(f[1], line_of(f[1], queue, job)), job) end
    call('HSET', jk, 'line', over.id)
    call('ZADD', line_key(over.id, line), seat_of(f), job)
    call('HSETNX', P..':lines:'..over.id, line, '')
  end
  wait_for_rate(over)
  if call('HGET', P..':lines:'..over.id, line) == job then call('HSET', P..':lines:'..over.id, line, '') end
  for _, l in ipairs(list) do
    local from = line_of(l.id, queue, job)
    -- It was called there. If all who are left there wait for the same, nobody is called until that has room; so no event moves many.
    local same = not is_keyed(over.id) and not is_flows(l.id) and call('EXISTS', line_key(l.id, from)) == 1
    if l.id ~= over.id and call('HGET', P..':lines:'..l.id, from) == job then limits.call(l.id, job, same and from) end
  end
end

function limits.has_room(text)
  for _, l in ipairs(limits.of(text)) do if used_up(l) then return false end end
  return true
end

-- Whether a job that was taken from its queue may start now; else it was put aside.
function limits.admit(job, queue, text)
  local list = limits.of(text)
  for _, l in ipairs(list) do
    if used_up(l) then
      aside(job, queue, list, l)
      return false
    end
  end
  return true
end

function limits.leave(job, queue, text)                               -- it waits in no line any more; whom that gives room is called
  local line = call('HGET', RQ..':job:'..job, 'line')
  if line then
    call('ZREM', line_key(line, line_of(line, queue, job)), job)
    call('HDEL', RQ..':job:'..job, 'line')
  end
  for _, l in ipairs(limits.of(text)) do limits.call(l.id, job) end
end

function limits.take(job, lease, queue, text)
  for _, l in ipairs(limits.of(text)) do
    local key = P..':limit:'..l.id
    if l.ms then
      call('ZADD', key, now_ms(), job..':'..lease)
      call('PEXPIRE', key, l.ms + 1000)
    else call('SADD', key, job..':'..lease) end
  end
  limits.leave(job, queue, text)
end

function limits.free(job, lease, text, is_unsaid)                     -- the lease has ended. is_unsaid: it shall not count as a start
  local list = limits.of(text)
  for _, l in ipairs(list) do
    if not l.ms then call('SREM', P..':limit:'..l.id, job..':'..lease)
    elseif is_unsaid then call('ZREM', P..':limit:'..l.id, job..':'..lease) end
  end
  for _, l in ipairs(list) do limits.call(l.id, job) end
end

-- The value of a dotted field, as text for a key. Tagged nodes are walked through; what a reference holds nobody sees here.
local function dig(value, path)
  local i = 1
  while type(value) == 'table' and (value['$t'] or path[i]) do
    if value['$t'] then value = value.v
    else
      local part = path[i]
      if value[part] == nil and string.match(part, '^%d+$') then part = tonumber(part) + 1 end
      value, i = value[part], i + 1
    end
  end
  if path[i] or value == nil or value == cjson.null or type(value) == 'table' then return '~' end
  if type(value) == 'number' then value = string.format('%.17g', value) end
  value = tostring(value)
  return string.match(value, '^[%w_.-]+$') and #value <= 64 and '='..value or '#'..redis.sha1hex(value)
end

local function payload_of(run, task, source)
  if source[1] == 'i' then return call('HGET', P..':run:'..run, 'input') end
  if source[1] == 'p' then return call('HGET', P..':run:'..run, 'p:'..source[2]) end
  return call('HGET', P..':emits:'..run..':'..source[2], string.match(task, '%[(.*)%]'))
end

-- What `lim` is for a task of a step. p.lim: {id, n, ms or 0, source, path} each; source and path of one with a key (define/limits.py).
function limits.text(run, task, p)
  if not p or not p.lim then return nil end
  local parts = {}
  for _, l in ipairs(p.lim) do
    local id = l[1]
    if l[4] then
      local ok, value = pcall(cjson.decode, payload_of(run, task, l[4]) or 'null')
      id = id..':'..dig(ok and value or nil, l[5])
    end
    parts[#parts + 1] = id..','..l[2]..(l[3] > 0 and ','..l[3] or '')
  end
  return table.concat(parts, ' ')
end
