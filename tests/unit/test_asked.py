"""What cannot be meant is an error of our tree that names it, wherever it is given: no TypeError of some line inside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from nbflow import Concurrency, Flow, Rate, Retry, each, job
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


def test_retry_takes_exceptions_and_functions() -> None:
    assert Retry(on=ValueError, unless=(OSError, KeyError)).wants(ValueError(), 1)
    assert Retry(on=lambda error: "no" in str(error)).wants(ValueError("no"), 1)
    with pytest.raises(NbflowError, match=r"Retry\(max_attempts='3'\)"):
        Retry("3")  # type: ignore[arg-type]


def test_the_nearest_of_what_is_no_name_lists_what_there_is() -> None:
    assert nearest([1], ["a", "b"]) == "Known: 'a', 'b'."
