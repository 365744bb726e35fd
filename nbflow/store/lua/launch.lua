--! launch: a run: its hash, its place in the indexes, flow.start, its entry tasks and their jobs
--! uses: event job closing cancel awaits reuse cache advance begin owners launch
--! keys:
--! args: id flow plan bundle sig input inputdigest start key tags queue priority delay by *fields
--! reply: {'OK', id} | {'KEY', run, 'same'|'other'} the key is taken | {'MISSING', 'plan'|'bundle'|'past'|plan:digest|bundle:digest} upload or stage it, then say it again | {'AGAIN', id} this id is launched already | {'FULL', percent}
-- fields: further fields of the run's hash, in pairs: version, trigger and its signature; of a run that goes on from another reuse, how many
-- ends of tasks were staged for it, and line, the first run of the line, whose idempotency keys it has; along, the code of flows that it may
-- start, with its signature, and owns, the same as what it owns: plan:digest bundle:digest …
local order = {id = id, flow = flow, plan = plan, bundle = bundle, sig = sig, input = input, inputdigest = inputdigest, start = start,
  key = key, tags = tags, queue = queue, priority = priority, delay = delay, by = by}
local refusal
for i = 1, #fields, 2 do
  if fields[i] == 'owns' then order.owns = fields[i + 1] end
  if fields[i] == 'reuse' and call('HLEN', P..':reuse:'..id) ~= tonumber(fields[i + 1]) then refusal = refusal or {'MISSING', 'past'} end
end
refusal = refusal_of(order) or refusal
return refusal or launch_run(order, fields)
