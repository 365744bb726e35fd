--! recall: the state of a run, or one value of it, without values whose time is over
--! keys:
--! args: run key
--! reply: {key, value, ...}
-- key: '' for all.
local sk, fk = P..':state:'..run, P..':fades:'..run
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if key ~= '' then
  local due = redis.call('ZSCORE', fk, key)
  local value = redis.call('HGET', sk, key)
  return value and not (due and tonumber(due) <= now) and {key, value} or {}
end
local over, told = {}, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', fk, '-inf', now)) do over[name] = 1 end
local flat = redis.call('HGETALL', sk)
for i = 1, #flat, 2 do
  if not over[flat[i]] then told[#told + 1] = flat[i] told[#told + 1] = flat[i + 1] end
end
return told
