--! retire: a slice of what is due: runs whose retention is over go out of sight, and what is left of those that went is removed
--! uses: event job closing cancel owners retire
--! keys:
--! args:
--! reply: 1 if more is left to do now, 0 if not
local MANY, now = 20, now_ms()
for _, id in ipairs(call('ZRANGEBYSCORE', P..':retire', '-inf', now, 'LIMIT', 0, MANY)) do
  local was = call('HGET', P..':run:'..id, 'status')
  if was and not ENDED[was] then call('ZREM', P..':retire', id)       -- it lives, and its end will say when it goes
  elseif not bury(id) then return 1 end
end
if remove_some() then return 1 end
local due = call('ZRANGE', P..':retire', 0, 0, 'WITHSCORES')[2]
return due and tonumber(due) <= now and 1 or 0
