--! resolve: ends the wait of a task, if it waits still: of two who say so, and the timeout, exactly one does
--! uses: event job closing cancel awaits reuse cache advance begin owners launch children giveback answers
--! keys:
--! args: id job position data by nonce
--! reply: {'OK'} | {'GONE'} it waits no more | {'ENDED', status} the run is over | {'UNKNOWN'} there is no such run
-- position: before | after. data, by: JSON text. nonce: another one for each answer; the same one again (its reply got lost) is OK again.
take(id)
if not status then return {'UNKNOWN'} end
local field = '#'..job..':'..position
if call('HGET', P..':resolved:'..id, field) == nonce then return {'OK'} end
if status ~= 'running' then return {'ENDED', status} end
local w = awaited(job)
if not w or w.run ~= id or w.position ~= position then return {'GONE'} end
call('HSET', P..':resolved:'..id, field, nonce)
answer(job, w, data, by)
return {'OK'}
