-- What a run takes over from an earlier one. <p>:reuse:<run> says by task what became of it there: its rank among the ends of that run, a
-- digest of what it received, and its end as JSON. A task that would receive the same again is not queued: it waits in <p>:again:<run>, and
-- its end is applied as a settle would. The ends are applied in their old order: which emission of a topic came first, and the numbers that
-- a script gives to emissions, come out as they were. Steps of which tasks are to be made lie in <p>:making:<run>, in slices like all else.
-- Fields of the run's hash:   g: a sum over all emissions of a topic, the same in any order   reusing: a slice is under way
local WIDTH = 2 ^ 40                                                  -- of each half of a sum; 2^53 is exact

local function add_to_sum(topic, pairs_)
  local n, a, b = string.match(get('g:'..topic) or '0 0 0', '^(%d+) (%d+) (%d+)$')
  for i = 1, #pairs_, 2 do
    local h = redis.sha1hex(pairs_[i]..' '..pairs_[i + 1])
    a = (a + tonumber(string.sub(h, 1, 10), 16)) % WIDTH
    b = (b + tonumber(string.sub(h, 11, 20), 16)) % WIDTH
  end
  call('HSET', rk, 'g:'..topic, string.format('%.0f %.0f %.0f', n + #pairs_ / 2, a, b))
end

-- one digest of what a task receives, as model/receipt.py makes it
local function receipt(s, p, index)
  local parts, k = {}, 0
  local function add(topic, value)
    parts[#parts + 1] = topic or ''
    parts[#parts + 1] = value or ''
  end
  for _, b in ipairs(p.bind) do
    local kind = b[1]
    if kind == 'i' then add('input', get('input'))
    elseif kind == 'e' then
      for i = 2, #b do add(b[i], call('HGET', P..':emits:'..run..':'..b[i], index)) end
    elseif kind ~= 'r' then                                           -- the answer to its hold is part of how it ended
      k = k + 1
      local topic = get('y:'..s..':'..k)
      add(topic, kind == 'g' and (get('g:'..topic) or '0 0 0') or get('p:'..topic))
    end
  end
  for _, x in ipairs(p.keeps or {}) do add('failed:'..x, get('g:failed:'..x) or '0 0 0') end
  return redis.sha1hex(table.concat(parts, '\n'))
end

local function rank_before(s, p, index, task)                         -- its place among the ends that are taken over; nil if it is to be executed
  local text = call('HGET', P..':reuse:'..run, task)
  if not text then return end
  local rank, digest = string.match(text, '^(%d+) (%x+) ')
  return digest == receipt(s, p, index) and rank or nil
end
