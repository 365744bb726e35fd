--! cancel: ends a run and revokes its leases; from then on nothing of it starts and nothing of it counts
--! uses: event job closing cancel
--! keys:
--! args: id reason by
--! reply: {'OK', worker, lease, ...} whom to interrupt | {'ENDED', status} | {'UNKNOWN'}
-- reason, by: JSON text.
take(id)
local was = status
if not was then return {'UNKNOWN'} end
if was ~= 'running' then return {'ENDED', was} end
local now = now_ms()
local f = call('HMGET', rk, 'flow', 'started')
event(id, 'flow.cancel', '', 0, '{"reason":'..reason..',"by":'..by..',"previousStatus":"'..was..'","duration":'..(now - f[2])..'}')
call('HSET', rk, 'status', 'canceled', 'ended', now)
call('ZREM', P..':runs:running', id)
call('ZADD', P..':runs:canceled', now, id)
call('DEL', P..':meet:'..id, P..':left:'..id, P..':turns:'..id)
if cancel_slice(id) then call('RPUSH', P..':slices', id..' *cancel') end
tell(id, f[1], 'flow.cancel')
return {'OK', unpack(revoked)}
