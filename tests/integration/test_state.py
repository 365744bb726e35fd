"""`ctx.state` on real workers: updates at the same time, times that are over, and the end of the run."""

from __future__ import annotations

import time

from nbflow import Context, collect, each
from tests.site import Site


def test_updates_of_two_workers_lose_nothing_and_what_is_for_a_time_goes(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def many(ctx: Context) -> list[int]:
        ctx.state.set("token", "t", ttl="50ms")
        ctx.state.set("lock", 1, cleanup="on_end")
        while ctx.state.get("token") is not None:
            time.sleep(0.01)
        return list(range(12))

    @flow.step(each(many))
    def add(n: int, ctx: Context) -> None:
        for _ in range(5):
            ctx.state.update("seen", lambda seen: {**seen, str(n): seen.get(str(n), 0) + 1}, default={})

    @flow.step(collect(add))
    def look(_: list[None], ctx: Context) -> dict[str, object]:
        return ctx.state.all()

    run = flow.start().wait(30, progress=False)
    assert run.result == {"lock": 1, "seen": {str(n): 5 for n in range(12)}}
    assert run.state == {"seen": {str(n): 5 for n in range(12)}}
    gone = {e.data["key"]: e.data["reason"] for e in run.follow() if e.type == "state" and "reason" in e.data}
    assert gone == {"token": "ttl", "lock": "end"}
