-- Values of a run's state that go by themselves: at a time, or with the run's end at the latest. <p>:fades:<run> has their names by that time
-- (+inf: the end only), at most MOST_FADING; the run's field `fading` says that there may be some. `fade <run>` stands in the due-set.
local MOST_FADING = 500

local function take_values(id, names, reason)                          -- each with its event
  for _, name in ipairs(names) do
    call('ZREM', P..':fades:'..id, name)
    if call('HDEL', P..':state:'..id, name) == 1 then
      event(id, 'state', '', 0, '{"operation":"delete","key":'..cjson.encode(name)..',"reason":"'..reason..'"}')
    end
  end
end

local function fade_due(id, now)                                       -- those whose time is over; the next of them is put into the due-set
  take_values(id, call('ZRANGEBYSCORE', P..':fades:'..id, '-inf', now), 'ttl')
  local next_one = call('ZRANGEBYSCORE', P..':fades:'..id, '(0', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if next_one then call('ZADD', P..':timers', next_one, 'fade '..id) else call('ZREM', P..':timers', 'fade '..id) end
end

local function fade_all(id)                                            -- the run ends
  fade_due(id, now_ms())
  take_values(id, call('ZRANGE', P..':fades:'..id, 0, -1), 'end')
  call('ZREM', P..':timers', 'fade '..id)
end
