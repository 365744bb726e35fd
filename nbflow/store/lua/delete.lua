--! delete: takes an ended run out of sight; what is left of it is removed in slices (retire)
--! uses: event job closing cancel owners retire
--! keys:
--! args: id
--! reply: {'OK'} | {'MORE'} tasks of it are left: say it again | {'LIVE', status} | {'UNKNOWN'}
local was = call('HGET', P..':run:'..id, 'status')
if not was then return {'UNKNOWN'} end
if not ENDED[was] then return {'LIVE', was} end
return {bury(id) and 'OK' or 'MORE'}
