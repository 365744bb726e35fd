-- A run comes to be. `o` holds what the scripts that launch are given by name (see launch.lua), `fields` further fields of its hash.
-- o.owns: what it owns beside its own code, see own_artifact. o.after: the run behind which it waits, in o.line: the key whose field `run` names the last in that line.
local FULL = 0.9                                                      -- of maxmemory: the rest is for runs that are under way

-- Why there can be no such run, as the reply that says so; nothing was written.
local function refusal_of(o)
  if call('EXISTS', P..':run:'..o.id) == 1 then return {'AGAIN', o.id} end
  if o.key ~= '' then
    local other = call('GET', P..':key:'..o.flow..':'..o.key)
    if other and call('EXISTS', P..':run:'..other) == 1 then
      return {'KEY', other, call('HGET', P..':run:'..other, 'inputdigest') == o.inputdigest and 'same' or 'other'}
    end
  end
  if call('EXISTS', P..':plan:'..o.plan) == 0 then return {'MISSING', 'plan'} end
  if call('EXISTS', P..':bundle:'..o.bundle) == 0 then return {'MISSING', 'bundle'} end
  for code in string.gmatch(o.owns or '', '%a+:%x+') do
    if call('EXISTS', P..':'..code) == 0 then return {'MISSING', code} end
  end
  local memory = call('INFO', 'memory')
  local used, most = tonumber(string.match(memory, 'used_memory:(%d+)')), tonumber(string.match(memory, 'maxmemory:(%d+)'))
  if most > 0 and used >= FULL * most then return {'FULL', math.floor(100 * used / most)} end
end

local function write_run(o, fields, now)                              -- its hash, its place in the indexes, what it owns
  local key = P..':run:'..o.id
  call('HSET', key, 'status', 'running', 'flow', o.flow, 'plan', o.plan, 'bundle', o.bundle, 'sig', o.sig, 'input', o.input,
    'inputdigest', o.inputdigest, 'started', now, 'tags', o.tags, 'key', o.key, 'by', o.by, unpack(fields))
  if o.queue ~= '' then call('HSET', key, 'queue', o.queue) end
  if o.priority ~= '' then call('HSET', key, 'priority', o.priority) end
  if o.key ~= '' then call('SET', P..':key:'..o.flow..':'..o.key, o.id) end
  call('SADD', P..':flows', o.flow)
  call('ZADD', P..':flows:'..o.flow, now, o.id)
  call('ZADD', P..':runs:running', now, o.id)
  own('plan', o.plan)
  own('bundle', o.bundle)
  call('PERSIST', P..':plan:'..o.plan)                                -- an upload is for an hour, until a run owns it
  call('PERSIST', P..':bundle:'..o.bundle)
  for member in string.gmatch(o.owns or '', '%S+') do own_artifact(o.id, member) end
  call('ZREM', P..':retire', o.id)                                    -- and so are the artifacts of its input
end

local function launch_run(o, fields)
  local now = now_ms()
  write_run(o, fields, now)
  local due = o.after and now or due_at(o.delay, now)
  local start = o.after and '{"after":"'..o.after..'",'..string.sub(o.start, 2) or o.start
  event(o.id, 'flow.start', '', 0, due and told_due(start, due) or start)
  tell(o.id, o.flow, 'flow.start')
  take(o.id)
  for topic, ms in pairs(plan_of('limits').lookbacks or {}) do        -- from now on events of these topics are kept for so long
    if ms > tonumber(call('HGET', P..':topics', topic) or '0') then call('HSET', P..':topics', topic, ms) end
  end
  if plan_of('limits').cached and not reuses then                     -- it takes over what it finds
    reuses = '0'
    call('HSET', P..':run:'..o.id, 'reuse', reuses)
  end
  local stall = plan_of('limits').stall
  if stall then call('ZADD', P..':stalls', now + math.max(1, math.floor(stall / 4)), o.id) end     -- see parts/stalls.lua
  if o.after then start_behind(o.id, o.after, o.line, due) return {'OK', o.id} end
  watch_deadline(o.id, now)
  if due then start_later(o.id, due) else begin_run() end
  return {'OK', o.id}
end
