"""Limits: how many tasks of a step run at once, and how many start within a time, over all runs of a flow.

Read after `test_jobs.py`.
"""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from nbflow import Concurrency, Context, Flow, Rate, Retry, collect, each
from nbflow.errors import DefinitionError
from nbflow.watch.run import Run
from tests.site import Site


def starts(run: Run, step: str) -> list[int]:
    """When its tasks started, in milliseconds."""
    return [
        int(event.id.partition("-")[0])
        for event in run.follow()
        if event.type == "step.started" and event.step_name == step
    ]


def test_so_many_run_at_once_over_all_runs(site: Site) -> None:
    """Two workers have time for both at once, and the limit keeps them apart."""
    flow = site.flow()

    @flow.entry(concurrency=Concurrency(1))
    def alone() -> tuple[float, float]:
        begin = time.monotonic()
        time.sleep(0.02)
        return begin, time.monotonic()

    runs = flow.start_many([{}] * 8)
    spans = sorted(run.wait(30, progress=False).result for run in runs)
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), spans


def test_a_key_divides_the_limit(site: Site) -> None:
    """At most one for each customer, whoever waits for another: the second of a busy one does not block the queue."""
    flow = site.flow()

    @flow.entry
    def orders() -> list[dict[str, object]]:
        return [{"customer": name, "n": n} for n in range(6) for name in ("ada", "bob")]

    @flow.step(each(orders), concurrency=Concurrency(1, key="customer"))
    def book(order: dict[str, object]) -> tuple[object, float, float]:
        begin = time.monotonic()
        time.sleep(0.01)
        return order["customer"], begin, time.monotonic()

    @flow.step(collect(book))
    def booked(all_of: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
        return all_of

    spans = flow.start().wait(30, progress=False).result
    for name in ("ada", "bob"):
        of_one = sorted(span[1:] for span in spans if span[0] == name)
        assert len(of_one) == 6
        assert all(before[1] <= after[0] for before, after in pairwise(of_one)), of_one


def test_a_rate_bounds_the_starts_within_any_time(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def numbers() -> range:
        return range(7)

    @flow.step(each(numbers), rate=Rate(3, "300ms"))
    def call(n: int) -> int:
        return n

    run = flow.start().wait(30, progress=False)
    began = starts(run, "call")
    assert len(began) == 7
    assert all(after - before >= 299 for before, after in zip(began, began[3:], strict=False)), began


def test_in_process_the_clock_jumps_to_where_a_rate_has_room() -> None:
    """`flow.test` honours limits, and waits for none."""
    flow = Flow("rated")

    @flow.entry
    def numbers() -> range:
        return range(7)

    @flow.step(each(numbers), rate=Rate(3, "1h"))
    def call(n: int) -> int:
        return n

    began = starts(flow.test(), "call")
    assert [round((when - began[0]) / 3_600_000, 3) for when in began] == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_in_process_no_more_run_at_once_than_may(seed: int) -> None:
    flow = Flow("bounded", concurrency=Concurrency(3))

    @flow.entry
    def numbers() -> range:
        return range(9)

    @flow.step(each(numbers), concurrency=Concurrency(1, key="numbers.0"), retry=Retry(2, backoff=1))
    def some(n: int, ctx: Context) -> int:
        if n == 4 and ctx.attempt == 1:
            raise ValueError("once")
        return n

    @flow.step(each(numbers), concurrency=Concurrency(2))
    def others(n: int) -> int:
        return n

    run = flow.trial(seed=seed, workers=8, crashes=0.2).run()
    assert run.status == "completed"
    held: dict[str, set[str]] = {"some": set(), "others": set()}
    for event in run.follow():
        if event.type == "step.started":
            held.setdefault(event.step_name, set()).add(event.task)
        elif event.type in ("step.completed", "step.retry", "step.failed", "step.queued"):
            held.setdefault(event.step_name, set()).discard(event.task)
        assert len(held["some"]) <= 1, "a number has no field: all share one key"
        assert len(held["others"]) <= 2
        assert sum(map(len, held.values())) <= 3


def test_of_equals_the_first_starts_first() -> None:
    flow = Flow("in-order")

    @flow.entry
    def numbers() -> range:
        return range(20)

    @flow.step(each(numbers), concurrency=Concurrency(2))
    def some(n: int) -> int:
        return n

    run = flow.trial(seed=3, workers=8).run()
    order = [event.index for event in run.follow() if event.type == "step.started" and event.step_name == "some"]
    assert order == [str(n) for n in range(20)]


@pytest.mark.parametrize("wrong", [0, -1, 10_001, 1.5, True, "2", None])
def test_what_is_no_limit_is_refused(wrong: object) -> None:
    for make in (Concurrency, Rate):
        with pytest.raises(DefinitionError, match="is not possible"):
            make(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "of"), [("", "Concurrency"), ("a..b", "Concurrency"), ("a b", "Concurrency")])
def test_what_is_no_field_is_refused(key: str, of: str) -> None:
    with pytest.raises(DefinitionError, match=f"{of}.*names no field"):
        Concurrency(1, key=key)


def test_a_key_must_be_of_a_payload_that_the_step_receives() -> None:
    flow = Flow("keys")

    @flow.entry
    def a() -> int:
        return 1

    @flow.entry
    def b() -> int:
        return 1

    with pytest.raises(DefinitionError, match=r"'id'.*'a\.field', 'b\.field'"):

        @flow.step([a, b], concurrency=Concurrency(1, key="id"))
        def both(a: int, b: int) -> int:
            return a + b

    with pytest.raises(DefinitionError, match="What is collected has no key"):

        @flow.step(collect(a), concurrency=Concurrency(1, key="id"))
        def all_of(many: list[int]) -> int:
            return 1

    assert [step.name for step in flow.steps()] == ["a", "b"], "nothing half-done"


def test_what_is_given_as_a_limit_must_be_one() -> None:
    flow = Flow("wrong")
    with pytest.raises(DefinitionError, match="The concurrency= of step 'a' is 4"):

        @flow.entry(concurrency=4)  # type: ignore[arg-type]
        def a() -> int:
            return 1

    with pytest.raises(DefinitionError, match="The rate= of step 'b' is '10/s'"):

        @flow.entry(rate="10/s")  # type: ignore[arg-type]
        def b() -> int:
            return 1

    with pytest.raises(DefinitionError, match="The concurrency= of flow 'wrong' is 2"):
        Flow("wrong", concurrency=2)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="too short"):
        Rate(1, 0)
