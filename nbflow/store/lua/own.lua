--! own: a run owns an artifact, counted once; its bytes are written in here too, so that no key is without an owner
--! uses: event owners
--! keys:
--! args: run digest how *blob
--! reply: 'OK' | 'WANTED' it is owned, and the bytes are not in this server | 'GONE' there is no such run, nothing was written
-- how: start, the run is about to be launched: what it owns goes after an hour if it is not | run | there, the bytes lie in the artifact
-- store by now: does the run own them still? blob: the bytes, if this server is to hold them. digest: plan:… or bundle:… for code, too.
if call('EXISTS', P..':run:'..run) == 0 then
  if how ~= 'start' then
    if how == 'there' and owners_of('artifact', digest) == 0 then call('HSET', P..':dust', digest, run) end
    return 'GONE'
  end
  call('ZADD', P..':retire', now_ms() + 3600000, run)
end
own_artifact(run, digest)
if blob[1] then call('SET', P..':artifact:'..digest, blob[1]) return 'OK' end
return call('EXISTS', P..':'..(string.find(digest, ':', 1, true) and '' or 'artifact:')..digest) == 1 and 'OK' or 'WANTED'
