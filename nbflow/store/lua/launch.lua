--! launch: a run: its hash, its place in the indexes, flow.start, its entry tasks and their jobs
--! uses: event job closing cancel awaits advance begin owners launch
--! keys:
--! args: id flow plan bundle sig input inputdigest start key tags queue priority delay by *fields
--! reply: {'OK', id} | {'KEY', run, 'same'|'other'} the key is taken | {'MISSING', 'plan'|'bundle'} upload it, then say it again | {'AGAIN', id} this id is launched already | {'FULL', percent}
-- fields: further fields of the run's hash, in pairs: version, trigger and its signature
local order = {id = id, flow = flow, plan = plan, bundle = bundle, sig = sig, input = input, inputdigest = inputdigest, start = start,
  key = key, tags = tags, queue = queue, priority = priority, delay = delay, by = by}
return refusal_of(order) or launch_run(order, fields)
