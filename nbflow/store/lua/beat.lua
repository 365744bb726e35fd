--! beat: the supervisor says that its workers live, which renews their lease, and shows in RQ's records what runs for longer than a beat
--! uses: event
--! keys:
--! args: lease_ms *rows
--! reply: the workers that are no longer known (given up)
-- rows, four a worker: worker jobs seconds lease (the lease of a task that runs for longer than a beat, else '')
local at, now, lost = iso(), now_ms(), {}
local ttl = math.ceil(lease_ms / 1000)
local function show(ex, lease, worker)
  local job, n = string.match(ex, '^(.-):(.+)$')
  local jk, ek = RQ..':job:'..job, RQ..':execution:'..ex
  if n ~= lease or call('EXISTS', jk) == 0 then return end
  local f = call('HMGET', jk, 'started_at', 'origin')
  if not f[1] then
    call('HSET', jk, 'started_at', at)
    call('HSET', ek, 'id', n, 'job_id', job, 'created_at', now / 1000, 'worker_name', worker)
  end
  call('HSET', jk, 'last_heartbeat', at)
  call('HSET', ek, 'last_heartbeat', now / 1000)
  call('EXPIRE', ek, ttl)
  call('ZADD', RQ..':executions:'..job, now / 1000 + ttl + 60, n)
  call('EXPIRE', RQ..':executions:'..job, ttl + 60)
  call('ZADD', RQ..':wip:'..f[2], now / 1000 + 31536000, ex)          -- far ahead: RQ's own cleanup must never fail it
end
for i = 1, #rows, 4 do
  local worker, lease = rows[i], rows[i + 3]
  local wk = RQ..':worker:'..worker
  if call('EXISTS', wk) == 1 then
    call('ZADD', P..':workers', now + lease_ms, worker)
    call('HSET', wk, 'last_heartbeat', at, 'successful_job_count', rows[i + 1], 'total_working_time', rows[i + 2])
    call('EXPIRE', wk, 86400)                                         -- the lease decides; a sleeping laptop must not lose its registration
    if lease ~= '' then
      for _, ex in ipairs(call('SMEMBERS', wk..':executions')) do show(ex, lease, worker) end
    end
  else lost[#lost + 1] = worker end
end
return lost
