--! tick: what is due: workers whose lease ran out (their machine died) are given back
--! uses: event job closing advance giveback
--! keys:
--! args:
--! reply: the workers given back
local gone = call('ZRANGEBYSCORE', P..':workers', '-inf', now_ms(), 'LIMIT', 0, 20)
for _, worker in ipairs(gone) do give_back(worker, 'its lease ran out') end
return gone
