--! mute: a trigger is paused, or goes on; what comes meanwhile starts nothing
--! uses: event triggers
--! keys:
--! args: trigger paused
--! reply: 1 if there is one, 0 if not
-- paused: 1 | 0
local key = triggers.key(trigger)
if call('EXISTS', key) == 0 then return 0 end
if paused == '1' then call('HSET', key, 'paused', 1) else call('HDEL', key, 'paused') end
return 1
