-- Ends of tasks that tasks of later runs take over: `cache=` of a step. <p>:cache:<digest> is such an end, <p>:cached names them by the time at
-- which they go (retire.lua). The digest is of what the code is (p.cache[1], define/plan.py) and of what the task received. An entry owns its
-- artifacts as a run does, and a run that takes it over owns them too, in the same script. <p>:misses:<run> has the digests of tasks that are
-- executed: what they received when they became ready is what their end is kept for.
-- Fields of an entry:   at: when it was kept   run: by which   end: JSON [data of step.completed, emissions, 1]   refs: its artifacts
-- as: the task and its name, where the step looked at them: then only that task takes it over
local BEHIND = 2 ^ 45                                                 -- ranks of ends that are found, behind those of an earlier run

local function place_of(task, p)                                      -- what a step may see of its place in a map
  return task..' '..(p.key and call('HGET', P..':keys:'..run, task) or '')
end

local function kept_under(s, p, index) return redis.sha1hex(p.cache[1]..' '..receipt(s, p, index)) end

local function drop_end(digest)                                       -- how many artifacts it owned
  local key, left = P..':cache:'..digest, 0
  local refs = call('HGET', key, 'refs') or ''
  call('DEL', key)
  call('ZREM', P..':cached', digest)
  for artifact in string.gmatch(refs, '%x+') do
    leave(digest..'@'..now_ms(), 'artifact', artifact)
    left = left + 1
  end
  return left
end

-- The task's end, if one is kept: it is put where those are that the run takes over. Its rank there; nil if there is none.
local function find_end(s, p, index, task)
  local digest = kept_under(s, p, index)
  local f = anew and {} or call('HMGET', P..':cache:'..digest, 'at', 'end', 'refs', 'as')
  if not f[1] or f[1] + p.cache[2] <= now_ms() or f[4] and f[4] ~= place_of(task, p) then
    call('HSET', P..':misses:'..run, task, digest)
    return nil
  end
  for artifact in string.gmatch(f[3], '%x+') do own_artifact(run, artifact) end
  local rank = string.format('%.0f', BEHIND + inc('hits', 1))
  call('HSET', P..':reuse:'..run, task, rank..' '..digest..' '..f[2])
  return rank
end

local function moved(emits, from, to)                                 -- the same emissions with the indexes of another task; from and to: its own index
  local i = 1
  while emits[i] do
    local n = tonumber(emits[i + 3])
    for j = i + 4, i + 2 + 2 * n, 2 do
      if string.sub(emits[j], 1, #from) ~= from then return nil end
      emits[j] = to..string.sub(emits[j], #from + 1)
    end
    i = i + 4 + 2 * n
  end
  return emits
end

-- A task completed that was executed. Its first group says whether that may be kept (mode `keep`, worker/ending.py): which artifacts it
-- refers to, and in its text whether the step looked at its place.
local function keep_end(s, p, task, data, emits)
  local digest, index = call('HGET', P..':misses:'..run, task), string.match(task, '%[(.*)%]') or ''
  if not digest then return end
  call('HDEL', P..':misses:'..run, task)
  if emits[2] ~= 'keep' then return end
  if p.keeps and kept_under(s, p, index) ~= digest then return end    -- it may have seen failures that came since
  local refs, rest = {}, {}
  for i = 5, 3 + 2 * emits[4], 2 do refs[#refs + 1] = emits[i] end
  for i = 5 + 2 * emits[4], #emits do rest[#rest + 1] = emits[i] end
  rest = moved(rest, index, '')
  if not rest then return end
  for _, artifact in ipairs(refs) do own('artifact', artifact) end
  drop_end(digest)
  local now, key = now_ms(), P..':cache:'..digest
  local told = string.sub(data, 1, -2)..',"cached":{"run":"'..run..'","at":"'..stamp(now)..'"}}'
  call('HSET', key, 'at', now, 'run', run, 'end', cjson.encode({told, rest, 1}), 'refs', table.concat(refs, ' '))
  if emits[3] ~= '' then call('HSET', key, 'as', place_of(task, p)) end
  call('ZADD', P..':cached', now + p.cache[2], digest)
end
