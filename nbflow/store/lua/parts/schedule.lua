-- Schedules: <p>:schedules says when somebody has to look after which, <p>:schedule:<flow>:<name> what it is: its signed record, the next
-- occurrence, and what became of the last. An occurrence is decided in the script that moves `next` on: so it counts once, whoever comes.
local schedules = {paused = 'inf'}                                    -- paused: as a score, never

function schedules.schedule_key(flow, name) return P..':schedule:'..flow..':'..name end

-- Why this occurrence is nobody's to decide any more: {'GONE'} | {'PAST', what is next}; nil if it is the caller's.
function schedules.passed(flow, name, rev, due)
  local f = call('HMGET', schedules.schedule_key(flow, name), 'next', 'rev', 'paused')
  if not f[1] then return {'GONE'} end
  if f[1] ~= due or f[2] ~= rev or f[3] then return {'PAST', f[1]} end
end

function schedules.look_at(flow, name, due)
  call('ZADD', P..':schedules', due, flow..':'..name)
end

function schedules.move_on(flow, name, following)
  call('HSET', schedules.schedule_key(flow, name), 'next', following)
  schedules.look_at(flow, name, following)
end
