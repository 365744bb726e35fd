-- One record of a run's stream and its notice on the channel, in one breath. Time is Redis's.
-- Names of steps, topics, queues and workers are of an alphabet that needs no escaping in JSON; all other text comes as JSON.
local call = redis.call

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function iso(t)                                                 -- RQ's form of now, or of {s, us}; days to date: Hinnant, "chrono-Compatible Low-Level Date Algorithms"
  t = t or call('TIME')
  local days, rest = math.floor(t[1] / 86400), t[1] % 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(rest / 3600), math.floor(rest % 3600 / 60), rest % 60, t[2])
end

local function stamp(ms)                                              -- a moment, as events tell it
  return (string.gsub(iso({math.floor(ms / 1000), ms % 1000 * 1000}), '000Z$', 'Z'))
end

local function many(command, key, list)                               -- unpack takes no more than 5,000
  for i = 1, #list, 4000 do call(command, key, unpack(list, i, math.min(i + 3999, #list))) end
end

local function notice(run, id, kind, task, attempt, data)
  call('PUBLISH', P..':events:'..run, '{"id":"'..id..'","type":"'..kind..'","task":"'..task..'","attempt":'..attempt..',"data":'..data..'}')
end

local function event(run, kind, task, attempt, data)
  local id = call('XADD', P..':flow:'..run, '*', 'type', kind, 'task', task, 'attempt', attempt, 'data', data)
  notice(run, id, kind, task, attempt, data)
end

local function tell(run, flow, kind)                                  -- the life of runs, for whoever watches all of them
  call('PUBLISH', P..':events', '{"run":"'..run..'","flow":'..cjson.encode(flow)..',"type":"'..kind..'"}')
end

local function strings(list)                                          -- a JSON list of plain names; cjson writes an empty list as {}
  return #list == 0 and '[]' or cjson.encode(list)
end
