--! append: logs, progress, metrics and artifacts of a running attempt, many at a time, if the lease is still held
--! uses: event
--! keys:
--! args: worker job lease run task attempt from to max *entries
--! reply: {'OK', to} | {'AT', offset} sent before up to this offset | {'LOST'} the lease is gone
-- entries, two each: type data. from, to: the bytes of the worker's own record that they come from, so that a repeat changes nothing.
-- Of a canceled run, logs are taken still. Of other types nothing is: they are written by those scripts that do what they tell of.
local told = {log = true, progress = true, metric = true, artifact = true}
for i = 1, #entries, 2 do
  if not told[entries[i]] then return redis.error_reply('ERR append takes no event of the type '..entries[i]) end
end
local jk, rk = RQ..':job:'..job, P..':run:'..run
local status = call('HGET', rk, 'status')
local canceled = status == 'canceled' or status == 'failed'             -- a run that failed may have ended its tasks likewise
local ours = call('SISMEMBER', RQ..':worker:'..worker..':executions', job..':'..lease) == 1            -- of a canceled run: until a slice revokes it
if not ours and not canceled then return {'LOST'} end
if ours then
  local at = tonumber(call('HGET', jk, 'out') or '0')
  if at ~= tonumber(from) then return {'AT', at} end
  call('HSET', jk, 'out', to)
end
-- Both streams share one sequence of ids: a log's id is above all ids so far, and the run's stream goes on above it.
local fk, lk = P..':flow:'..run, P..':log:'..run
local function parts(id) local ms, n = string.match(id or '0-0', '(%d+)-(%d+)') return tonumber(ms), tonumber(n) end
local last = call('XREVRANGE', fk, '+', '-', 'COUNT', 1)[1]
local ms, n = parts(last and last[1])
local lms, ln = parts(call('HGET', rk, 'lastlog'))
if lms and (lms > ms or lms == ms and ln > n) then ms, n = lms, ln end
local now = now_ms()
if now > ms then ms, n = now, -1 end
local id
for i = 1, #entries, 2 do
  local kind, data = entries[i], entries[i + 1]
  if not canceled or kind == 'log' then
    n = n + 1
    id = string.format('%.0f-%.0f', ms, n)
    local key = kind == 'artifact' and fk or lk
    if key == lk then call('XADD', lk, id, 'type', kind, 'task', task, 'attempt', attempt, 'data', data)
    else call('XADD', fk, id, 'type', kind, 'task', task, 'attempt', attempt, 'data', data) end
    notice(run, id, kind, task, attempt, data)
  end
end
local gone = id and call('XTRIM', lk, 'MAXLEN', '~', max) or 0
if gone > 0 then                                                      -- how many went so far, for whoever reads the rest
  local data = '{"count":'..call('HINCRBY', rk, 'trimmed', gone)..'}'
  n = n + 1
  id = string.format('%.0f-%.0f', ms, n)
  call('XADD', lk, id, 'type', 'trimmed', 'task', '', 'attempt', 0, 'data', data)
  notice(run, id, 'trimmed', '', 0, data)
end
if id then
  call('HSET', rk, 'lastlog', id)
  call('XSETID', fk, id)
end
return {'OK', tonumber(to)}
