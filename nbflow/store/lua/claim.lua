--! claim: the next job of these queues, in their order, with a lease
--! uses: event job
--! keys: *queues
--! args: worker next was
--! reply: {job or false, slices 0|1, ms or nothing} ms: so long until a rate has room again for a task that was put aside
-- was: idle | busy | again (sent before, the answer got lost)
local got = was == 'again' and held(worker, next)
if not got then got = claim_next(worker, queues, next, was == 'busy' and 'busy' or 'idle') end
return {got, call('EXISTS', P..':slices'), limits.due or nil}
