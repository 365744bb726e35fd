--! launch: a run: its hash, its place in the indexes, flow.start, its entry tasks and their jobs
--! uses: event job closing cancel advance begin owners
--! keys:
--! args: id flow plan bundle sig input inputdigest start key tags queue priority delay by
--! reply: {'OK', id} | {'KEY', run, 'same'|'other'} the key is taken | {'MISSING', 'plan'|'bundle'} upload it, then say it again | {'AGAIN', id} this id is launched already | {'FULL', percent}
if call('EXISTS', P..':run:'..id) == 1 then return {'AGAIN', id} end
local named = P..':key:'..flow..':'..key
if key ~= '' then
  local other = call('GET', named)
  if other and call('EXISTS', P..':run:'..other) == 1 then
    return {'KEY', other, call('HGET', P..':run:'..other, 'inputdigest') == inputdigest and 'same' or 'other'}
  end
end
if call('EXISTS', P..':plan:'..plan) == 0 then return {'MISSING', 'plan'} end
if call('EXISTS', P..':bundle:'..bundle) == 0 then return {'MISSING', 'bundle'} end
local memory = call('INFO', 'memory')
local used, most = tonumber(string.match(memory, 'used_memory:(%d+)')), tonumber(string.match(memory, 'maxmemory:(%d+)'))
if most > 0 and used >= 0.9 * most then return {'FULL', math.floor(100 * used / most)} end              -- what runs must find room to end
local now = now_ms()
call('HSET', P..':run:'..id, 'status', 'running', 'flow', flow, 'plan', plan, 'bundle', bundle, 'sig', sig, 'input', input,
  'inputdigest', inputdigest, 'started', now, 'tags', tags, 'key', key, 'by', by)
if queue ~= '' then call('HSET', P..':run:'..id, 'queue', queue) end
if priority ~= '' then call('HSET', P..':run:'..id, 'priority', priority) end
if key ~= '' then call('SET', named, id) end
call('SADD', P..':flows', flow)
call('ZADD', P..':flows:'..flow, now, id)
call('ZADD', P..':runs:running', now, id)
own('plan', plan)
own('bundle', bundle)
call('PERSIST', P..':plan:'..plan)                                        -- an upload is for an hour, until a run owns it
call('PERSIST', P..':bundle:'..bundle)
call('ZREM', P..':retire', id)                                        -- and so are the artifacts of its input
local due = due_at(delay, now)
event(id, 'flow.start', '', 0, due and told_due(start, due) or start)
tell(id, flow, 'flow.start')
take(id)
local deadline = plan_of('limits').deadline
if deadline then call('ZADD', P..':timers', now + deadline, 'deadline '..id) end
if due then start_later(id, due) else begin_run() end
return {'OK', id}
