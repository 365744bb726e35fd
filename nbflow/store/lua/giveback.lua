--! giveback: a worker is gone: its tasks go back to their queues, its registration ends
--! uses: event job closing cancel awaits reuse cache advance owners giveback
--! keys:
--! args: worker cause
--! reply: the jobs given back
-- cause: plain text of why it died, '' if it ended well.
return give_back(worker, cause)
