--! tick: what is due: attempts and runs whose delay is over begin, waits end or time out, runs that passed their deadline end, workers whose lease ran out (their machine died) are given back; runs that cannot go on are said to be stalled, and when they can again
--! uses: event job closing cancel awaits reuse cache advance begin owners launch children giveback answers stalls
--! keys:
--! args: *wants
--! reply: {the workers given back, ms until the next is due or '', {{job, since, cron, time zone}, ...} occurrences to reckon, what is to be started: schedules as flow:name, firings as *id}
-- Schedules and firings are offered to who wants them ('schedules'), and again after OFFER to whoever asks then, unless they were decided
-- (see fire and pull).
local OFFER, OFFERS = 10000, 15
local MANY = 200                                                      -- at most; the rest is due at the next tick, which is at once
local now, reckon = now_ms(), {}                                      -- reckon: what the caller is asked to compute
local gone = call('ZRANGEBYSCORE', P..':workers', '-inf', now, 'LIMIT', 0, 20)
for _, worker in ipairs(gone) do give_back(worker, 'its lease ran out') end
for _, entry in ipairs(call('ZRANGEBYSCORE', P..':timers', '-inf', now, 'LIMIT', 0, MANY)) do
  call('ZREM', P..':timers', entry)
  local kind, what = string.match(entry, '^(%S+) (.+)$')
  if kind == 'retry' then again(what)
  elseif kind == 'await' then await_due(what, now, reckon)
  elseif kind == 'start' then start_now(what)
  elseif kind == 'rate' then limits.call(what)
  elseif kind == 'fade' then fade_due(what, now)
  elseif kind == 'deadline' then
    take(what)
    if status == 'running' then doomed = {'deadline'} end_now() end
  end
end
for _, queue in ipairs(call('HKEYS', P..':prio')) do                   -- where somebody else has taken the head of the list
  if lift(queue) then wake(queue) end
end
look_at_runs(now)
local due = call('ZRANGE', P..':timers', 0, 0, 'WITHSCORES')[2]
local offers = wants[1] and call('ZRANGEBYSCORE', P..':schedules', '-inf', now, 'LIMIT', 0, OFFERS)
for _, id in ipairs(offers or {}) do call('ZADD', P..':schedules', now + OFFER, id) end
for _, id in ipairs(offers and call('ZRANGEBYSCORE', P..':firings', '-inf', now, 'LIMIT', 0, OFFERS) or {}) do
  call('ZADD', P..':firings', now + OFFER, id)
  offers[#offers + 1] = '*'..id
end
return {gone, due and math.max(0, due - now) or '', reckon, offers or nil}
