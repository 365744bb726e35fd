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
if call('HDEL', rk, 'due') == 1 then was = 'awaiting' end               -- its start is delayed
close_run('canceled', 'flow.cancel', ',"reason":'..reason..',"by":'..by..',"previousStatus":"'..was..'"')
if cancel_slice(id) then call('RPUSH', P..':slices', id..' *cancel') end
return {'OK', unpack(revoked)}
