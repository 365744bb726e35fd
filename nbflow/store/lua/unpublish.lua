--! unpublish: the versions of a flow go, unless a schedule or a trigger starts it
--! uses: event owners
--! keys:
--! args: flow
--! reply: {'OK', how many} | {'USED', what starts it}
local user = call('SRANDMEMBER', P..':uses:'..flow)
if user then return {'USED', user} end
local key, gone = P..':versions:'..flow, 0
for _, number in ipairs(call('HKEYS', key)) do                        -- never more than publish keeps
  if forget_version(flow, number) then gone = gone + 1 end
end
call('DEL', key)
call('SREM', P..':published', flow)
return {'OK', gone}
