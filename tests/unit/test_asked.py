"""What cannot be meant is an error of our tree that names it, wherever it is given: no TypeError of some line inside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from nbflow import Concurrency, Context, Flow, Rate, Retry, Run, Schedule, Trigger, each, job
from nbflow import step as declare
from nbflow.errors import NbflowError, nearest
from nbflow.flow import checked_options
from nbflow.store.keys import Keys
from tests.bad_input import readable

WRONG: list[Any] = [5, 5.5, -1, 10**30, float("nan"), b"x", [], {}, [None], {"a": 1}, True, timedelta(-1)]


def some_flow() -> Flow:
    flow = Flow("t_asked")

    @flow.entry
    def first() -> int:
        return 1

    @flow.step(first)
    def second(n: int) -> int:
        return n

    return flow


DECLARED: dict[str, Callable[[Any], Any]] = {
    "Flow(v)": Flow,
    "Flow(queue=v)": lambda v: Flow("t_asked", queue=v),
    "Flow(on_failure=v)": lambda v: Flow("t_asked", on_failure=v),
    "entry(name=v)": lambda v: Flow("t_asked").entry(name=v)(lambda: 1),
    "entry(emits=v)": lambda v: Flow("t_asked").entry(emits=v)(lambda: 1) if v != [] else readable_error(),
    "step(role=v)": lambda v: declare(flows="t_asked", role=v)(lambda: 1),
    "step(flows=v)": lambda v: declare(flows=v)(lambda: 1),
    "each(v)": each,
    "job(name=v)": lambda v: job(name=v)(lambda: 1),
    "forget(v)": lambda v: some_flow().forget(v),
    "declaration(v)": lambda v: some_flow().declaration(v),
    "Retry(on=v)": lambda v: Retry(on=v),
    "Retry(unless=v)": lambda v: Retry(unless=v),
    "Concurrency(key=v)": lambda v: Concurrency(1, key=v),
    "Rate(per=v)": lambda v: Rate(1, v) if v not in (5, 5.5, True) else readable_error(),
    "tags=v": lambda v: checked_options(tags=v) if v != [] else readable_error(),
    "key=v": lambda v: checked_options(key=v),
    "trial(start=v)": lambda v: some_flow().trial(start=v),
    "trial(crashes=v)": lambda v: some_flow().trial(crashes=v) if v is not True else readable_error(),
    "crash(v)": lambda v: some_flow().trial().crash(v),
    "crash(when=v)": lambda v: some_flow().trial().crash("first", when=v),
    "replace(v)": lambda v: some_flow().trial().replace(v, lambda: 1),
    "replace(…, v)": lambda v: some_flow().trial().replace("first", v),
    "resolve(v)": lambda v: some_flow().trial().resolve(v),
    "cancel(v)": lambda v: some_flow().trial().cancel(v),
    "complete(emits=v)": lambda v: (
        some_flow().trial().complete("first", emits=v) if not isinstance(v, dict) else readable_error()
    ),
    "fire(v)": lambda v: some_flow().trial().fire(v),
    "fire(input=v)": lambda v: some_flow().trial().fire(Trigger("t_asked"), input=v) if v != {} else readable_error(),
    "interleavings(v)": lambda v: some_flow().trial().interleavings(v) if v not in (5, 10**30) else readable_error(),
    "queue=v": lambda v: checked_options(queue=v) if v not in ([], {}) else readable_error(),
    "priority=v": lambda v: checked_options(priority=v) if v not in (5, -1) or v is True else readable_error(),
    "delay=v": lambda v: checked_options(delay=v) if v not in (5, 5.5) else readable_error(),
    "options(on=v)": lambda v: some_flow().options(on=v),
    "plan(v)": lambda v: some_flow().plan(v),
    "Schedule(tz=v)": lambda v: Schedule("0 2 * * *", tz=v),
    "namespace=v": Keys,
}


def readable_error() -> None:
    """This one is allowed here."""
    raise NbflowError("This value is allowed in this place.", hint="Nothing is to be done.")


@pytest.mark.parametrize("what", DECLARED)
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_wrong_value_is_named(what: str, value: Any) -> None:
    with pytest.raises(NbflowError) as caught:
        DECLARED[what](value)
    readable(str(caught.value))


@pytest.fixture(scope="module")
def ended() -> Run:
    flow = Flow("t_asked_mapped")

    @flow.entry
    def numbers() -> list[int]:
        return [1, 2]

    @flow.step(each(numbers))
    def twice(n: int) -> int:
        return 2 * n

    return flow.test()


LOOKED_AT: dict[str, Callable[[Run, Any], Any]] = {
    "follow(v)": lambda run, v: run.follow(v),
    "foresee(v)": lambda run, v: run.foresee(v),
    "task(…, v)": lambda run, v: run.task("twice", v),
    "run[…][v]": lambda run, v: run["twice"][v] if v not in (5, -1, True, 10**30) else readable_error(),
    "run[v]": lambda run, v: run[v],
    "at(v)": lambda run, v: run.at(v),
    "artifact(v)": lambda run, v: run.artifact(v),
}


@pytest.mark.parametrize("what", LOOKED_AT)
def test_a_run_is_not_asked_for_what_cannot_be(what: str, ended: Run) -> None:
    for value in WRONG:
        with pytest.raises(NbflowError) as caught:
            LOOKED_AT[what](ended, value)
        readable(str(caught.value))


def test_a_step_is_told_what_it_cannot_say():
    flow = Flow("t_asked_says")

    @flow.entry(emits="a.b")
    def says(ctx: Context) -> list[str]:
        step: Any = ctx
        errors: list[str] = []
        for say in (lambda: step.emit_each("a.b", 5), lambda: [*step.track(None)], lambda: step.metric("loss", "low")):
            try:
                say()
            except NbflowError as error:
                errors.append(str(error))
        return errors

    @flow.step("a.b")
    def told(errors: list[str]) -> list[str]:
        return errors

    errors = flow.test().result
    assert [readable(text) for text in errors] == errors
    assert [word in text for word, text in zip(("5", "None", "'low'"), errors, strict=True)] == [True, True, True]


def test_retry_takes_exceptions_and_functions() -> None:
    assert Retry(on=ValueError, unless=(OSError, KeyError)).wants(ValueError(), 1)
    assert Retry(on=lambda error: "no" in str(error)).wants(ValueError("no"), 1)
    with pytest.raises(NbflowError, match=r"Retry\(max_attempts='3'\)"):
        Retry("3")  # type: ignore[arg-type]


def test_the_nearest_of_what_is_no_name_lists_what_there_is() -> None:
    assert nearest([1], ["a", "b"]) == "Known: 'a', 'b'."
