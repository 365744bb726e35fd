-- How a run goes. `bury` takes it out of sight in one breath: its hash becomes <p>:gone:<run>, which owns what is left and says what that is;
-- <p>:dying names the run, and slices of at most 500 keys or members remove the rest. A crash between two of them leaves the next to do.
local BREATH = 500
local ENDED = {completed = 1, failed = 1, canceled = 1}
local REST = {'flow', 'log', 'state', 'fades', 'keys', 'meet', 'left', 'turns', 'open', 'owned', 'resolved', 'reuse', 'again', 'making', 'misses', 'children'}                 -- beside what is kept of topics

local function forget_slices(id)                                      -- of a run that ended before its time
  for _, entry in ipairs(call('LRANGE', P..':slices', 0, BREATH)) do
    if string.sub(entry, 1, #id + 1) == id..' ' then call('LREM', P..':slices', 0, entry) end
  end
end

local function unlist(id)
  local f = call('HMGET', P..':run:'..id, 'flow', 'status', 'key', 'parent')
  call('ZREM', P..':flows:'..f[1], id)
  if call('EXISTS', P..':flows:'..f[1]) == 0 then call('SREM', P..':flows', f[1]) end
  call('ZREM', P..':runs:'..f[2], id)
  local named = P..':key:'..f[1]..':'..(f[3] or '')
  if f[3] and f[3] ~= '' and call('GET', named) == id then call('DEL', named) end
  if f[4] then call('ZREM', P..':children:'..f[4], id) end
  tell(id, f[1], 'flow.deleted')
end

-- An ended run, or artifacts owned for a start that came to nothing. Whether it is out of sight; else say it again: tasks are left, which
-- go first, with their leases, so that nothing of the run is written once it is gone. Before them go the runs that are to end with it.
local function bury(id)
  take(id)
  if get('ends') then
    children.cancel_some(id)
    return false
  end
  local more = cancel_slice(id)
  interrupt_revoked()
  if more then return false end
  forget_slices(id)
  if status then
    unlist(id)
    call('RENAME', rk, P..':gone:'..id)
  else call('HSET', P..':gone:'..id, 'at', 0) end
  call('ZREM', P..':retire', id)
  call('SADD', P..':dying', id)
  return true
end

local function remove_topics(id, gone, left)                          -- how many keys it took; whether all are gone
  local f = call('HMGET', gone, 'plan', 'at')
  local kept = f[1] and call('HGET', P..':plan:'..f[1], 'kept')
  local topics, at, used = kept and cjson.decode(kept) or {}, tonumber(f[2] or '0'), 0
  while used < left and topics[at + 1] do
    at, used = at + 1, used + 2
    call('UNLINK', P..':emits:'..id..':'..topics[at], P..':order:'..id..':'..topics[at])
  end
  if used > 0 then call('HSET', gone, 'at', at) end
  return used, at >= #topics
end

local function remove(id, left)                                       -- at most `left`; how many it took
  local gone = P..':gone:'..id
  local digests = call('SPOP', P..':owned:'..id, left)
  for _, member in ipairs(digests) do
    local kind, digest = string.match(member, '^(%a+):(.+)$')
    leave(id, kind or 'artifact', digest or member)
  end
  if #digests == left then return left end                            -- there may be more
  local used, all = remove_topics(id, gone, left - #digests)
  used = used + #digests
  if not all then return used end
  for _, kind in ipairs(REST) do call('UNLINK', P..':'..kind..':'..id) end
  local f = call('HMGET', gone, 'plan', 'bundle')
  if f[1] then leave(id, 'plan', f[1]) leave(id, 'bundle', f[2]) end
  call('UNLINK', gone)
  call('SREM', P..':dying', id)
  return used + #REST + 3
end

local function remove_some()                                          -- a slice; whether more is left
  local left = BREATH
  while left > 0 do
    local id = call('SRANDMEMBER', P..':dying')
    if not id then return false end
    left = left - remove(id, left)
  end
  return call('EXISTS', P..':dying') == 1
end
