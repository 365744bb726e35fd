"""`ctx.state`: JSON values that the steps of a run share, changed at once, for good or for a time."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from nbflow import Context, Flow, Retry
from tests.bad_input import failure_of

Make = Callable[..., Flow]


@pytest.fixture
def make_flow() -> Make:
    return lambda **options: Flow(f"t{uuid.uuid4().hex[:10]}", **options)


def test_steps_share_values_and_each_change_is_an_event(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry
    def first(ctx: Context) -> None:
        ctx.state.set("cursor", {"page": 1})
        ctx.state.incr("calls")

    @flow.step(first)
    def second(_: None, ctx: Context) -> list[Any]:
        ctx.state.incr("calls", 0.5)
        ctx.state.delete("nothing")
        return [ctx.state.get("cursor"), ctx.state.get("none", "default"), ctx.state.all()]

    run = flow.test()
    assert run.result == [{"page": 1}, "default", {"cursor": {"page": 1}, "calls": 1.5}]
    assert run.state == {"cursor": {"page": 1}, "calls": 1.5}
    assert len(run.events[run.events["type"] == "state"]) == 3


def test_update_replaces_a_value_by_what_a_function_makes_of_it(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry
    def add(ctx: Context) -> list[Any]:
        def appended(seen: list[str]) -> list[str]:
            return [*seen, "x"]

        ctx.state.update("seen", appended, default=[])
        return ctx.state.update("seen", appended, default=[])

    run = flow.test()
    assert run.result == ["x", "x"]
    assert run.state == {"seen": ["x", "x"]}


def test_a_value_with_a_ttl_is_gone_when_its_time_is_over(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry(retry=Retry(2, backoff="10m"))
    def twice(ctx: Context) -> Any:
        if ctx.attempt == 1:
            ctx.state.set("token", "t", ttl="5m")
            ctx.state.set("cursor", 7, ttl="15m")
            raise RuntimeError("again in ten minutes")
        return [ctx.state.get("token"), ctx.state.all()]

    run = flow.test()
    assert run.result == [None, {"cursor": 7}]
    told = [(e.data["key"], e.data.get("ttl"), e.data.get("reason")) for e in run.follow() if e.type == "state"]
    expected = [("token", 300_000, None), ("cursor", 900_000, None), ("token", None, "ttl"), ("cursor", None, "end")]
    assert told == expected


def test_what_is_of_the_run_only_goes_with_it_and_no_run_that_goes_on_has_it(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry
    def note(ctx: Context) -> None:
        ctx.state.set("lock", 1, cleanup="on_end")
        ctx.state.incr("lock")
        ctx.state.set("done", 1)

    @flow.step(note)
    def look(_: None, ctx: Context) -> Any:
        return ctx.state.all()

    run = flow.test()
    assert run.result == {"lock": 2, "done": 1}
    assert run.state == {"done": 1}
    assert run.resume().state == {"done": 1}
    at = next(event.id for event in run.follow() if event.type == "step.completed" and event.task == "note")
    assert run.at(at).state == {"lock": 2, "done": 1}
    assert run.fork(at=at).result == {"done": 1}


REFUSED: dict[str, tuple[Callable[[Context], Any], str]] = {
    "a set": (lambda ctx: ctx.state.set("k", {1}), "The state 'k' is no JSON value"),
    "NaN": (lambda ctx: ctx.state.set("k", float("nan")), "The state 'k' is no JSON value"),
    "a key that is no text": (lambda ctx: ctx.state.set("k", [{1: 2}]), "its key 1 is no text"),
    "too much": (lambda ctx: ctx.state.set("k", "x" * 70_000), "takes 68 KiB of JSON, and a value has at most 64 KiB"),
    "no name": (lambda ctx: ctx.state.get(""), "A key of the state cannot be ''"),
    "a long name": (lambda ctx: ctx.state.set("x" * 201, 1), "A key of the state cannot be"),
    "a line's end": (lambda ctx: ctx.state.delete("a\nb"), "A key of the state cannot be"),
    "a name that is none": (lambda ctx: ctx.state.get(5), "A key of the state cannot be"),  # type: ignore[arg-type]
    "no time": (lambda ctx: ctx.state.set("k", 1, ttl=0), "cannot stay for no time"),
    "a negative time": (lambda ctx: ctx.state.set("k", 1, ttl=-1), "The ttl of a value of the state cannot be -1"),
    "an unknown end": (lambda ctx: ctx.state.set("k", 1, cleanup="onend"), "Did you mean 'on_end'?"),  # type: ignore[arg-type]
    "no number": (lambda ctx: ctx.state.incr("k", "1"), "cannot grow by '1'"),  # type: ignore[arg-type]
    "no finite number": (lambda ctx: ctx.state.incr("k", float("inf")), "cannot grow by inf"),
    "text that grows": (lambda ctx: [ctx.state.set("k", "a"), ctx.state.incr("k")], "which is no number"),
    "beyond 64 bits": (lambda ctx: [ctx.state.set("k", 2**63 - 1), ctx.state.incr("k")], "beyond what it can count"),
    "no function": (lambda ctx: ctx.state.update("k", {}), "takes a function of the value"),  # type: ignore[arg-type]
    "501 for a time": (
        lambda ctx: [ctx.state.set(f"k{i}", i, ttl=60) for i in range(501)],
        "500 values of this run's state",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_kept_is_refused_with_its_name(make_flow: Make, what: str) -> None:
    flow = make_flow()
    act, words = REFUSED[what]

    @flow.entry
    def keep(ctx: Context) -> None:
        act(ctx)

    run = flow.test()
    failure_of(run, words)
    if not what.startswith(("text", "beyond", "501")):
        assert run.state == {}


def test_an_update_that_somebody_overtakes_is_made_anew() -> None:
    """Eight threads, each of which reads before another has written."""
    from nbflow.worker.kept import RunState
    from nbflow.worker.state import Change, State

    lock, told = threading.Lock(), list[Any]()
    kept = RunState({}, lambda: 0, told.append)

    class Port:
        def state(self, change: Change) -> str:
            with lock:
                return change.outcome(*kept.change(change, told.append))

        def read_state(self, key: str | None) -> dict[str, str]:
            with lock:
                return kept.read(key)

    def add() -> None:
        for _ in range(50):
            State(Port()).update("n", lambda n: n + 1, default=0)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert State(Port()).get("n") == 400
    assert [data["value"] for data in told] == list(range(1, 401))
