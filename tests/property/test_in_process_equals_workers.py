"""The same flow on real workers and in process: the same result, the same statuses, and the same events, but for ids,
times, workers, signatures and the order in which tasks that do not wait for each other happen to run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nbflow import (
    NOTHING,
    Approval,
    Context,
    Flow,
    GiveUp,
    OnEvent,
    Retry,
    Schedule,
    Time,
    Webhook,
    any_of,
    collect,
    completed,
    each,
    failed,
)
from nbflow.errors import StepFailure
from nbflow.watch.run import Run
from tests.site import Site

DIFFERS = ("duration", "worker", "by", "bundle", "dueAt", "timeoutAt", "token", "held", "forkedFrom", "run")


def a_chain(flow: Flow) -> dict[str, Any]:
    @flow.entry
    def one(n: int = 1, m: float = 0.5) -> int:
        print("one", n)
        return n + 1

    @flow.step(one)
    def two(n: int, ctx: Context) -> int:
        ctx.log.info("two", rows=n)
        ctx.state.incr("count", 0.5)
        ctx.state.set("last", {"n": n})
        ctx.state.delete("nothing")
        ctx.artifact("kept", {"n": n})
        ctx.metric("loss", n)
        return n * 10

    return {"n": 4}


def branches(flow: Flow) -> dict[str, Any]:
    @flow.entry(emits=["good", "bad"])
    def judge(value: int, ctx: Context) -> None:
        ctx.emit("good" if value > 0 else "bad", value)

    @flow.step(any_of("good", "bad"))
    def either(what: tuple[str, int]) -> tuple[str, int]:
        return what

    @flow.step("bad")
    def worry(value: int) -> str:
        return "oh"

    return {"value": 3}


def nested_maps(flow: Flow) -> dict[str, Any]:
    @flow.entry
    def words() -> list[str]:
        return ["bb", "a", "ccc"]

    @flow.step(each(words), key=str, emits=["letter"])
    def letters(word: str, ctx: Context) -> int:
        ctx.emit_each("letter", list(word))
        return len(word)

    @flow.step(each("letter"))
    def shout(letter: str, ctx: Context) -> Any:
        return letter.upper(), ctx.index

    @flow.step(collect(shout))
    def all_of(pairs: list[Any]) -> list[Any]:
        return pairs

    @flow.step(each(words, letters))
    def both(words: str, letters: int) -> str:
        return words * letters

    return {}


def an_empty_map(flow: Flow) -> dict[str, Any]:
    @flow.entry
    def none() -> list[int]:
        return []

    @flow.step(each(none))
    def double(n: int) -> int:
        return 2 * n

    @flow.step(collect(double))
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return {}


def failures_answered_for(flow: Flow) -> dict[str, Any]:
    @flow.entry
    def numbers() -> list[int]:
        return [1, 0, 2]

    @flow.step(each(numbers), key=lambda n: f"n{n}")
    def inverse(n: int) -> float:
        return 1 / n

    @flow.step(each(failed(inverse)))
    def excuse(failure: dict[str, Any]) -> Any:
        return failure["key"], failure["index"], failure["input"], failure["error"], failure["attempt"]

    @flow.step(collect(inverse, failures="keep"))
    def rest(values: list[float]) -> Any:
        return list(values), {key: value["error"] for key, value in values.failed.items()}  # type: ignore[attr-defined]

    return {}


def a_failure_that_skips(flow: Flow) -> dict[str, Any]:
    @flow.entry
    def numbers() -> list[int]:
        return [1, 0]

    @flow.step(each(numbers))
    def inverse(n: int) -> float:
        return 1 / n

    @flow.step(completed(inverse))
    def done(values: list[float]) -> list[float]:
        return values

    return {}


def a_cycle(flow: Flow) -> dict[str, Any]:
    @flow.entry(emits=["todo"])
    def begin(ctx: Context) -> None:
        ctx.emit("todo", 3)

    @flow.step(each("todo"), emits=["todo", "seen"])
    def count_down(n: int, ctx: Context) -> None:
        ctx.emit("seen", n)
        if n > 0:
            ctx.emit("todo", n - 1)

    @flow.step(collect("seen"))
    def order(values: list[int]) -> list[int]:
        return values

    return {}


def retries(flow: Flow) -> dict[str, Any]:
    @flow.entry(retry=Retry(3, backoff=0.01))
    def flaky(ctx: Context) -> list[int]:
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")
        return [ctx.attempt]

    @flow.step(each(flaky), key=str)
    def hopeless(n: int) -> None:
        raise GiveUp("the account is closed")

    return {}


def a_timeout(flow: Flow) -> dict[str, Any]:
    @flow.entry(timeout=0.1, retry=Retry(2, backoff=0, on=(TimeoutError,)))
    def slow_once(ctx: Context) -> int:
        import time

        if ctx.attempt == 1:
            time.sleep(60)
        return ctx.attempt

    return {}


def an_undeclared_topic(flow: Flow) -> dict[str, Any]:
    @flow.entry(emits=["order.priced"])
    def price(ctx: Context) -> None:
        ctx.emit("order.prized", 1)

    return {}


def a_payload_that_does_not_fit(flow: Flow) -> dict[str, Any]:
    @flow.entry
    def begin() -> Any:
        return {"rows": "many"}

    @flow.step(begin)
    def count(rows: dict[str, int]) -> int:
        return 1

    return {}


def a_payload_that_cannot_travel(flow: Flow) -> dict[str, Any]:
    @flow.entry
    def opens() -> Any:
        import threading

        return {"lock": threading.Lock()}

    return {}


def several_topics_and_nothing_emitted(flow: Flow) -> dict[str, Any]:
    @flow.entry(emits=["a", "b"])
    def forgets() -> int:
        return 1

    return {}


def what_is_not_returned(flow: Flow) -> dict[str, Any]:
    @flow.entry(emits=["go"])
    def maybe() -> Any:
        return NOTHING

    @flow.step("go")
    def went(what: str) -> str:
        return what

    return {}


def waits(flow: Flow) -> dict[str, Any]:
    @flow.step(each("told"))
    def tell(asked: dict[str, Any]) -> Any:
        return asked["kind"], asked["attempt"], asked.get("message"), asked.get("input")

    @flow.entry(hold=Time(0.01), hold_emits=Time(0.01), emits=["out"])
    def begin(n: int, ctx: Context) -> Any:
        ctx.emit("out", [n, ctx.resolved])
        return n

    @flow.step("out", hold=Approval(bool, message="Well?", timeout=0.02, on_timeout="continue"))
    def unanswered(out: list[Any], ctx: Context) -> Any:
        return out, ctx.resolved

    @flow.entry(hold=Webhook(notify="told", timeout=0.01, on_timeout="retry"), retry=Retry(2, backoff=0.01))
    def asked_twice() -> int:
        return 1

    @flow.step(failed(asked_twice))
    def excuse(failure: dict[str, Any]) -> Any:
        return failure["error"], failure["attempt"]

    @flow.step(begin, hold=Schedule("* * * * * *"), hold_emits=OnEvent("never", timeout=0.01))
    def lost(n: int) -> int:
        return n

    @flow.step(collect(begin))
    def fine(values: list[int]) -> list[int]:
        return values

    return {"n": 3}


def flows_that_start_flows(flow: Flow) -> dict[str, Any]:
    child = Flow(f"{flow.name}-child")

    @child.entry
    def double(n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        return 2 * n

    @flow.entry(emits=["said"])
    def begin(n: int, ctx: Context) -> Any:
        ctx.emit("said", n)
        ctx.start_flow(child, 100)
        return ctx.start_flow(child, n, await_result=True)

    @flow.step("said")
    def hears(said: int) -> int:
        return said

    @flow.step(begin, retry=Retry(2, backoff=0.01))
    def fails(n: int, ctx: Context) -> Any:
        return ctx.start_flow(child, -n, await_result=True)

    @flow.step(failed(fails))
    def excuse(failure: dict[str, Any]) -> Any:
        return failure["input"], failure["attempt"]

    return {"n": 3}


def classes_and_frames(flow: Flow) -> dict[str, Any]:
    @dataclass
    class Order:
        total: float
        lines: tuple[int, ...]

    @flow.entry
    def order() -> Order:
        return Order(3.5, (1, 2))

    @flow.step(order)
    def table(order: Order) -> Any:
        import pandas as pd

        return pd.DataFrame({"line": list(order.lines), "total": order.total})

    return {}


FLOWS: list[Callable[[Flow], dict[str, Any]]] = [
    a_chain, branches, nested_maps, an_empty_map, failures_answered_for, a_failure_that_skips, a_cycle, retries, a_timeout,
    an_undeclared_topic, a_payload_that_does_not_fit, a_payload_that_cannot_travel, several_topics_and_nothing_emitted,
    what_is_not_returned, waits, flows_that_start_flows, classes_and_frames,
]  # fmt: skip


@pytest.mark.parametrize("seed", [None, 7], ids=["in order", "seeded"])
@pytest.mark.parametrize("declare", FLOWS, ids=lambda declare: declare.__name__)
def test_in_process_and_on_workers_the_same_happens(
    site: Site, declare: Callable[[Flow], dict[str, Any]], seed: int | None
) -> None:
    flow = site.flow()
    given = declare(flow)
    there = flow.start(**given).wait(20, progress=False)
    here = flow.trial(seed=seed).run(**given)
    assert here.status == there.status
    assert _outcome(here) == _outcome(there)
    assert here.state == there.state
    assert {name: step.status for name, step in here.view.steps.items()} == {
        name: step.status for name, step in there.view.steps.items()
    }
    assert _told(here) == _told(there)


@pytest.mark.parametrize("declare", FLOWS, ids=lambda declare: declare.__name__)
def test_what_goes_on_from_a_run_is_the_same_in_process_and_on_workers(
    site: Site, declare: Callable[[Flow], dict[str, Any]]
) -> None:
    flow = site.flow()
    given = declare(flow)
    there = flow.start(**given).wait(20, progress=False).resume().wait(20, progress=False)
    here = flow.trial().run(**given).resume()
    assert _outcome(here) == _outcome(there)
    assert here.state == there.state
    assert _told(here) == _told(there)


def _outcome(run: Run) -> Any:
    try:
        result = run.result
    except StepFailure as failure:
        return str(failure)
    return result.to_dict() if hasattr(result, "to_dict") else repr(result)


def _told(run: Run) -> Counter[Any]:
    """What the events tell, without what must differ."""
    return Counter(
        (event.type, event.task, event.attempt, json.dumps(_comparable(event.data), sort_keys=True))
        for event in run.follow(timeout=20)
    )


def _comparable(data: dict[str, Any]) -> dict[str, Any]:
    differs = (*DIFFERS, "traceback") if data.get("reason") == "timeout" else DIFFERS  # it shows who interrupted
    if data.get("reason") == "child":  # it names the other run
        differs = (*DIFFERS, "error", "traceback")
    return {name: _inside(value) for name, value in data.items() if name not in differs}


def _inside(value: Any) -> Any:
    """Who is told of a wait is told the same, but for times and what makes a run this one."""
    return {name: one for name, one in value.items() if name not in DIFFERS} if isinstance(value, dict) else value
