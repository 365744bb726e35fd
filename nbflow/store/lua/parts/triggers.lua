-- Triggers: <p>:trigger:<name> says what one is and, by flow, what it starts; <p>:listens:<source> which of them an event is for, as
-- `name flow`. A firing is an event with the flows that it has to start still: <p>:firing:<id> has a field `name flow` for each, and
-- <p>:firings says when somebody has to look after it. Who starts one, or drops it, takes that field out in the same script: so it counts once.
local triggers = {most = 100, offer = 10000, fixed = 5}               -- most: listeners of a source; fixed: fields of a firing beside the pairs

function triggers.key(name) return P..':trigger:'..name end

function triggers.listeners(source) return call('SMEMBERS', P..':listens:'..source) end

function triggers.wants(name, value)                                  -- whether it is on, and the payload has what it matches
  local f = call('HMGET', triggers.key(name), 'match', 'paused')
  if not f[1] then return false end
  if f[2] then call('HINCRBY', triggers.key(name), 'ignored', 1) return false end
  return matches(cjson.decode(f[1]), value)
end

-- An event comes to all that listen to its source. How many flows there are to start: who caused it starts them, or somebody is offered it.
function triggers.fire(source, payload, sig, id, key)
  local value, wanted, open = decoded(payload), {}, {}
  for _, pair in ipairs(triggers.listeners(source)) do
    local name = string.match(pair, '^%S+')
    if wanted[name] == nil then wanted[name] = triggers.wants(name, value) end
    if wanted[name] then
      open[#open + 1] = pair
      open[#open + 1] = 1
    end
  end
  if #open == 0 then return 0 end
  local now = now_ms()
  call('HSET', P..':firing:'..id, 'at', now, 'source', source, 'payload', payload, 'sig', sig, 'key', key, unpack(open))
  call('ZADD', P..':firings', now + triggers.offer, id)
  return #open / 2
end

function triggers.is_open(id, pair) return call('HEXISTS', P..':firing:'..id, pair) == 1 end

function triggers.done(id, pair)                                      -- whether it was open; the last one takes the firing along
  local key = P..':firing:'..id
  if call('HDEL', key, pair) == 0 then return false end
  if call('HLEN', key) == triggers.fixed then
    call('DEL', key)
    call('ZREM', P..':firings', id)
  end
  return true
end

function triggers.count(name, flow, what)
  call('HINCRBY', triggers.key(name), what..' '..flow, 1)
end
