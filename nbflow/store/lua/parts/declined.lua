-- Workers that cannot open some code (a package is missing, another Python), and the tasks that they gave back. <p>:lacking has for each
-- such worker a map: bundle to {until when, in words}. Their tasks lie in <p>:declined:<queue>:<bundle>, the oldest first, and <p>:declined names
-- these lists, "<queue> <bundle>". While there is neither, nobody looks: a claim asks for both keys together with those that stop it.
local declined = {some = false}

local lacked                                                          -- of the worker at hand: by bundle
function declined.by(worker)
  if not lacked then
    local ok, map = pcall(cjson.decode, call('HGET', P..':lacking', worker) or '{}')
    lacked = {}
    for bundle, why in pairs(ok and map or {}) do if tonumber(why[1]) > now_ms() then lacked[bundle] = why end end
  end
  return lacked
end

local function list_key(queue, bundle) return P..':declined:'..queue..':'..bundle end

function declined.leave(job, queue, bundle)
  call('ZREM', list_key(queue, bundle), job)
  call('HDEL', RQ..':job:'..job, 'declined')
  if call('EXISTS', list_key(queue, bundle)) == 0 then call('HDEL', P..':declined', queue..' '..bundle) end
end

function declined.put(job, queue, bundle, lim)                        -- where workers find it that do not lack the bundle
  if lim then limits.leave(job, queue, lim) end
  local at = now_ms() - tonumber(call('HGET', RQ..':job:'..job, 'priority') or '0') * 2 ^ 44
  call('HSET', RQ..':job:'..job, 'declined', bundle)
  call('ZADD', list_key(queue, bundle), string.format('%.0f', at), job)
  call('HSET', P..':declined', queue..' '..bundle, 1)
  declined.some = true
end

-- The next task that others gave back and this worker may take; `fits` says of a job's fields whether it may start. How many were passed.
function declined.next(worker, queue, passed, fields, fits)
  for _, name in ipairs(call('HKEYS', P..':declined')) do
    local other, bundle = string.match(name, '^(%S+) (%S+)$')
    while other == queue and not declined.by(worker)[bundle] and passed < 500 do
      local job = call('ZRANGE', list_key(queue, bundle), 0, 0)[1]
      if not job then break end
      declined.leave(job, queue, bundle)
      local f = call('HMGET', RQ..':job:'..job, unpack(fields))
      if fits(job, f) then return job, f, passed end
      passed = passed + 1
    end
  end
  return nil, nil, passed
end

-- The worker could not open the code of this task. data: {"lacks": why, "again": ms}, after which it may try again.
function declined.settle(worker, job, bundle, f, data)                -- f: run task attempt queue lim
  local ok, told = pcall(cjson.decode, data)
  local lacks, pause = ok and tostring(told.lacks) or 'it cannot open the code', ok and tonumber(told.again) or 60000
  local map = declined.by(worker)
  map[bundle] = {string.format('%.0f', now_ms() + pause), lacks}
  call('HSET', P..':lacking', worker, cjson.encode(map))
  call('HSET', RQ..':job:'..job, 'status', 'queued', 'worker_name', '', 'enqueued_at', iso())
  call('HDEL', RQ..':job:'..job, 'out', 'nonce', 'lease')
  declined.put(job, f[4], bundle, f[5])
  event(f[1], 'step.queued', f[2], f[3], '{"queue":"'..f[4]..'","declined":{"worker":"'..worker..'","lacks":'..cjson.encode(lacks)..'}}')
end
