--! publish: a version of a flow, the newest from then on; it owns its plan and its bundle as a run does
--! uses: event owners
--! keys:
--! args: flow last plan bundle record most
--! reply: {'OK', number} | {'BEHIND', number} the newest is another than the caller knows | {'MISSING', 'plan'|'bundle'} upload it, then say it again
-- record: signed, of the number last + 1. The oldest of more than `most` versions goes.
local key = P..':versions:'..flow
local newest = tonumber(call('HGET', key, 'newest') or '0')
if newest ~= tonumber(last) then return {'BEHIND', newest} end
if call('EXISTS', P..':plan:'..plan) == 0 then return {'MISSING', 'plan'} end
if call('EXISTS', P..':bundle:'..bundle) == 0 then return {'MISSING', 'bundle'} end
call('HSET', key, 'newest', newest + 1, newest + 1, record)
call('SADD', P..':published', flow)
own('plan', plan)
own('bundle', bundle)
call('PERSIST', P..':plan:'..plan)
call('PERSIST', P..':bundle:'..bundle)
forget_version(flow, newest + 1 - most)
return {'OK', newest + 1}
