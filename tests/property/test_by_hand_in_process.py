"""What is done to a task by hand comes to the same on real workers and in process, wherever the task is at that moment."""

from __future__ import annotations

from typing import Any

import pytest

from nbflow import Approval, Context, Flow, Retry, Time, failed
from tests.property.test_in_process_equals_workers import _outcome, _told
from tests.site import Site, wait_until


def put_off(flow: Flow) -> None:
    @flow.entry(retry=Retry(2, backoff="1h"))
    def task(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ValueError("once")
        return 7


def asked_before(flow: Flow) -> None:
    @flow.entry(hold=Approval(bool))
    def task(ctx: Context) -> int:
        return 7


def held_after(flow: Flow) -> None:
    @flow.entry(hold_emits=Time("1h"))
    def task(ctx: Context) -> int:
        return 7


def awaits_a_run(flow: Flow) -> None:
    child = Flow(f"{flow.name}-child")

    @child.entry(hold=Time("1h"))
    def waits() -> int:
        return 8

    @flow.entry
    def task(ctx: Context) -> Any:
        ctx.state.incr("starts")
        return ctx.start_flow(child, await_result=True) if ctx.attempt == 1 else 7


def followed(flow: Flow) -> None:
    @flow.step("step:task")
    def more(n: int) -> int:
        return n + 1

    @flow.step(failed("step:task"))
    def excuse(failure: dict[str, Any]) -> str:
        return failure["error"]


PLACES = {
    "retrying": (put_off, ("cancel", "complete", "retry")),
    "awaiting before": (asked_before, ("cancel", "complete")),
    "awaiting after": (held_after, ("cancel", "complete")),
    "awaiting a run": (awaits_a_run, ("cancel", "complete", "retry")),
}
CASES = [(place, what) for place, (_, acts) in PLACES.items() for what in acts]


@pytest.mark.parametrize(("place", "what"), CASES, ids=[f"{what} {place}" for place, what in CASES])
def test_what_is_done_by_hand_comes_to_the_same(site: Site, place: str, what: str) -> None:
    flow, state = site.flow(), place.split(maxsplit=1)[0]
    PLACES[place][0](flow)
    followed(flow)
    given = (100,) if what == "complete" else ()
    there = flow.start()
    wait_until(lambda: [*there.tasks["status"]] == [state], what=lambda: str(there.tasks))
    getattr(there.task("task"), what)(*given)
    there.wait(20, progress=False)
    for child in there.children:
        child.cancel()
    trial: Any = flow.trial()
    here = getattr(trial, what)("task", *given, when=state).run()
    assert (here.status, _outcome(here), here.state) == (there.status, _outcome(there), there.state)
    assert _told(here) == _told(there)
