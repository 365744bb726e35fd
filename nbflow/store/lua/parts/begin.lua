-- The first tasks of a run: at its launch, or when the delay of its start is over.
local function begin_run()
  for _, a in ipairs(plan_of('closed') or {}) do push('close', a) end
  for _, i in ipairs(plan_of('cycles')) do push('cycle', i) end                                         -- one that nothing feeds is closed
  for _, s in ipairs(plan_of('entries')) do create(s, plan_of('step:'..s), 1) end
  for _, name in ipairs(advance(nil)) do wake(name) end
end

local function start_later(id, due)
  call('HSET', P..':run:'..id, 'due', due)
  call('ZADD', P..':timers', due, 'start '..id)
end

local function watch_deadline(id, now)
  local deadline = plan_of('limits').deadline
  if deadline then call('ZADD', P..':timers', now + deadline, 'deadline '..id) end
end

local function start_behind(id, before, line, due)                    -- when that run has ended, see leave_line; its deadline counts from then
  call('HSET', P..':run:'..id, 'due', due, 'after', before, 'queued_by', line)
  call('HSET', P..':run:'..before, 'then', id)
end

local function start_now(id)                                          -- its time has come; nothing if it was canceled meanwhile
  take(id)
  if status ~= 'running' or call('HDEL', rk, 'due') == 0 then return end
  if call('HDEL', rk, 'after') == 1 then watch_deadline(id, now_ms()) end
  begin_run()
end

-- The text of a delay as the time it means: '' none, '5000' ms from now, '@1700000000000' that moment. Nothing if it is over.
local function due_at(delay, now)
  local moment = string.sub(delay, 1, 1) == '@' and tonumber(string.sub(delay, 2)) or now + tonumber(delay == '' and '0' or delay)
  return moment > now and moment or nil
end

local function told_due(start, due)                                   -- the data of flow.start with its due time
  return '{"dueAt":"'..stamp(due)..'"'..(start == '{}' and '' or ',')..string.sub(start, 2)
end
