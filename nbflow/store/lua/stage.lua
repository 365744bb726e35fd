--! stage: some of what a run that is about to be launched takes over from an earlier one; it goes after an hour if no launch follows
--! uses: event owners
--! keys:
--! args: run what *parts
--! reply: 'OK' | 'AGAIN' there is such a run already, nothing was written
-- what: reuse | state, parts are fields and values | own, parts are the digests of artifacts. At most 500 a call.
if call('EXISTS', P..':run:'..run) == 1 then return 'AGAIN' end
call('ZADD', P..':retire', now_ms() + 3600000, run)
if what == 'own' then
  for _, digest in ipairs(parts) do own_artifact(run, digest) end
else call('HSET', P..':'..what..':'..run, unpack(parts)) end
return 'OK'
