--! retire: a slice of what is due: runs whose retention is over go out of sight, and what is left of those that went is removed; ends that were kept for others go when their time is over
--! uses: event job closing cancel reuse cache owners retire
--! keys:
--! args:
--! reply: 1 if more is left to do now, 0 if not
local MANY, now = 20, now_ms()
local used = 0
for _, digest in ipairs(call('ZRANGEBYSCORE', P..':cached', '-inf', now, 'LIMIT', 0, BREATH)) do
  used = used + 1 + drop_end(digest)
  if used >= BREATH then return 1 end
end
for _, id in ipairs(call('ZRANGEBYSCORE', P..':retire', '-inf', now, 'LIMIT', 0, MANY)) do
  local was = call('HGET', P..':run:'..id, 'status')
  if was and not ENDED[was] then call('ZREM', P..':retire', id)       -- it lives, and its end will say when it goes
  elseif not bury(id) then return 1 end
end
if remove_some() then return 1 end
local due = call('ZRANGE', P..':retire', 0, 0, 'WITHSCORES')[2]
return due and tonumber(due) <= now and 1 or 0
