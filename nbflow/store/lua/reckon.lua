--! reckon: the moment of the next occurrence that a task waits for, computed by who was asked for it in the reply of tick
--! uses: event job closing cancel awaits reuse cache advance begin owners launch children giveback answers
--! keys:
--! args: job since at
--! reply: 1 if it waits for it, 0 if it does not wait any more or knew it already
local w = awaited(job)
local f = call('HMGET', RQ..':job:'..job, 'ends', 'since')
if not w or f[1] ~= 'reckon' or f[2] ~= since then return 0 end
set_due(job, w, tonumber(at))
return 1
