-- Who refers to what. <p>:owners counts, for each plan, bundle and artifact, the runs that own it. A run owns an artifact if the digest lies
-- in <p>:owned:<run>. The law: set and count change in one script, a digest counts once a run, and bytes are written only after that.
-- So the script that takes the last count may delete the bytes: whoever comes to own them then finds them missing, and writes them again.
local function own(kind, digest)
  call('HINCRBY', P..':owners', kind..':'..digest, 1)
end

local function own_artifact(run, digest)                              -- or plan:<digest>, bundle:<digest>: code that it may come to start
  if call('SADD', P..':owned:'..run, digest) == 0 then return end
  if not string.find(digest, ':', 1, true) then return own('artifact', digest) end
  call('HINCRBY', P..':owners', digest, 1)
  call('PERSIST', P..':'..digest)
end

local function owners_of(kind, digest) return tonumber(call('HGET', P..':owners', kind..':'..digest) or '0') end

-- What is not in this server may lie in the artifact store, where no script reaches: <p>:dust names it, and the run that left it, for those
-- who sweep there (store/dust.py).
local function leave(run, kind, digest)
  local field = kind..':'..digest
  if call('HINCRBY', P..':owners', field, -1) > 0 then return end
  call('HDEL', P..':owners', field)
  if call('UNLINK', P..':'..kind..':'..digest) == 0 and kind == 'artifact' then call('HSET', P..':dust', digest, run) end
end

-- A schedule, or a flow on a trigger, owns the artifacts of its input: the field names them, in place of those that it named before.
local function own_instead(key, field, digests)
  local before = call('HGET', key, field)
  for _, digest in ipairs(digests) do own('artifact', digest) end
  for digest in string.gmatch(before or '', '%x+') do leave('', 'artifact', digest) end
  if #digests > 0 then call('HSET', key, field, table.concat(digests, ' ')) elseif before then call('HDEL', key, field) end
end

local function forget_version(flow, number)                           -- a published version, which owns code as a run does; whether there was one
  local key = P..':versions:'..flow
  local record = tonumber(number) and call('HGET', key, number)
  if not record then return false end
  local told = cjson.decode(string.sub(record, 65))                   -- behind the signature
  leave('', 'plan', told.plan)
  leave('', 'bundle', told.bundle)
  call('HDEL', key, number)
  return true
end
