-- Runs that a step starts. The start is a group of its emissions, mode `start`: the run that will be, and what launch.lua is given, in pairs
-- of field and value. It counts with the completion, so the run begins in the script that applies it, once that has done all else: no crash
-- loses it or doubles it. A task that awaits such a run is held by it (position `child`), with what it emitted beside; the end of the run
-- puts it back into its queue, where a worker reads the result and settles as `joined`: it needs no place of its limits for that.
-- Fields of the job:   child: the run that it awaits   joins: the same, once that has ended; and `emitted` behind a
-- space, if its result is not to be emitted, for it emitted something itself
-- Fields of such a run's hash:   parent, parenttask: who started it   awaiter: the job that awaits it   depth: how many levels are above it
function children.start(task, attempt, id, pairs_, awaiter)
  local o = {id = id, delay = '', key = '', tags = '[]', queue = '', priority = ''}
  for i = 1, #pairs_, 2 do o[pairs_[i]] = pairs_[i + 1] end
  call('ZADD', P..':children:'..run, inc('born', 1), id)
  event(run, 'child.started', task, attempt, '{"run":"'..id..'","flow":'..cjson.encode(o.flow)..(awaiter and ',"awaited":true' or '')..'}')
  local starts = children.starts
  starts[#starts + 1] = {o, run, task, awaiter}
end

-- What was started, when nothing else is left to do: the run at hand is another one after it.
function children.begin()
  local starts = children.starts
  children.starts = {}
  for _, s in ipairs(starts) do
    local o, parent, task, awaiter = unpack(s)
    if call('EXISTS', P..':plan:'..o.plan, P..':bundle:'..o.bundle) < 2 then      -- somebody took it away
      call('ZREM', P..':children:'..parent, o.id)
      if awaiter then call('RPUSH', P..':slices', '*child '..awaiter) end
    elseif call('EXISTS', P..':run:'..o.id) == 0 then
      local fields = {'parent', parent, 'parenttask', task, 'depth', call('HGET', P..':run:'..parent, 'depth') or 0}
      fields[6] = fields[6] + 1
      for _, name in ipairs({'along', 'alongsig', 'version'}) do
        if o[name] then fields[#fields + 1] = name fields[#fields + 1] = o[name] end
      end
      if awaiter then fields[#fields + 1] = 'awaiter' fields[#fields + 1] = awaiter end
      launch_run(o, fields)
    end
  end
end

function children.await(job, task, attempt, data, emits)              -- the run that it awaits is the first of them
  local first, rest, used = {}, {}, 4 + 2 * emits[4]
  for i, part in ipairs(emits) do
    if i > used then rest[#rest + 1] = part elseif i > 4 then first[#first + 1] = part end
  end
  call('HDEL', RQ..':job:'..job, 'worker_name', 'lease', 'out', 'nonce')
  call('HSET', RQ..':job:'..job, 'status', 'deferred', 'hold', 'child', 'since', now_ms(), 'child', emits[1], 'said', emits[3])
  if #rest > 0 then many('RPUSH', P..':held:'..job, rest) end
  event(run, 'await.registered', task, attempt, data)
  children.start(task, attempt, emits[1], first, job)
end

function children.join(job)                                           -- the run that it awaits has ended
  local jk = RQ..':job:'..job
  local f = call('HMGET', jk, 'run', 'task', 'attempt', 'origin', 'key', 'status', 'priority', 'child', 'said')
  if f[6] ~= 'deferred' or not f[8] then return end
  take(f[1])
  local ended = call('HGET', P..':run:'..f[8], 'status') or 'gone'
  if status ~= 'running' or ended == 'running' then return end
  local queue = string.sub(f[4], #QP + 1)
  call('HDEL', jk, 'hold', 'since', 'lim')
  call('HSET', jk, 'joins', f[8]..((f[9] or '') ~= '' and ' '..f[9] or ''))
  event(run, 'await.resolved', f[2], f[3], '{"position":"child","data":"'..ended..'","by":{"run":"'..f[8]..'"}}')
  enter_queue(job, run, f[2], f[3], queue, f[5], tonumber(f[7] or '0'), '["child"]', nil)
  wake(queue)
end

function children.joined(job, emits)                                  -- what it emitted before it waited comes first
  local all = call('LRANGE', P..':held:'..job, 0, -1)
  for _, part in ipairs(emits) do all[#all + 1] = part end
  call('DEL', P..':held:'..job)
  return all
end
