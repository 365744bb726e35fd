--! emit: an event from outside of runs: kept in its topic's log while somebody may look back for it, and given to all tasks that wait for it and to the triggers of its topic
--! uses: event job closing cancel awaits reuse cache advance begin owners launch children giveback answers triggers
--! keys:
--! args: topic payload nonce sig
--! reply: {how many tasks it resolved by now, 1 if slices go on with it, how many flows there are to start}
-- nonce: another one for each event; the same one again (its reply got lost) does nothing.
if not call('SET', P..':said:'..nonce, 1, 'NX', 'EX', 60) then return {0, 0, math.max(0, call('HLEN', P..':firing:'..nonce) - triggers.fixed)} end
local kept_ms = tonumber(call('HGET', P..':topics', topic) or '0')
if kept_ms > 0 then
  local log = P..':topic:'..topic
  call('XADD', log, 'MAXLEN', LOG, '*', 'payload', payload)
  call('XTRIM', log, 'MINID', now_ms() - kept_ms)
  call('PEXPIRE', log, kept_ms)
end
local fired = triggers.fire(topic, payload, sig, nonce, '')
local upto = call('HGET', P..':topics', '#') or '0'
local resolved, from = give(topic, payload, 0, upto)
if from then
  call('SET', P..':given:'..nonce, payload)
  call('RPUSH', P..':slices', '*event '..topic..'/'..from..'/'..upto..'/'..nonce)
end
return {resolved, from and 1 or 0, fired}
