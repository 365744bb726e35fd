"""What cannot be declared or enqueued is refused with a sentence, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nbflow import Flow, Retry, job
from nbflow.define import registry
from nbflow.errors import CommandRefused, DefinitionError, InputInvalid
from tests.site import Site


@pytest.fixture(autouse=True)
def fresh_names() -> Iterator[None]:
    yield
    registry.reset()


def add(a: int, b: int = 1) -> int:
    return a + b


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"priority": 101}, "The priority of step 'add' cannot be 101"),
        ({"priority": 1.5}, "cannot be 1.5"),
        ({"priority": True}, "cannot be True"),
        ({"priority": "high"}, "cannot be 'high'"),
        ({"queue": "a b"}, "A queue cannot be called 'a b'"),
        ({"timeout": 0}, "too short"),
        ({"retry": 3}, "no policy"),
        ({"name": "a/b"}, "cannot be called 'a/b'"),
        ({"subscribes": "x"}, "no keyword 'subscribes'"),
        ({"key": str}, "no keyword 'key'"),
        ({"retries": Retry()}, "no keyword 'retries'"),
    ],
)
def test_a_job_that_cannot_be_declared(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        job(**options)(add)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("thing", [3, "text", print, type, [], lambda: None, add.__call__])
def test_what_is_no_function_is_no_job(thing: Any) -> None:
    with pytest.raises(DefinitionError):
        job(thing)


def test_a_job_is_the_only_step_of_its_flow() -> None:
    flow = Flow("add")

    @flow.entry
    def begin() -> int:
        return 1

    with pytest.raises(DefinitionError, match="that is a flow with the step 'begin'"):
        job(add)


REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda made: made.enqueue(), InputInvalid, "needs the input 'a'"),
    (lambda made: made.enqueue(1, 2, 3), InputInvalid, "takes 2 arguments, and got 3"),
    (lambda made: made.enqueue(1, a=2), InputInvalid, "'a' of job 'add' is given twice"),
    (lambda made: made.enqueue(1, c=2), InputInvalid, "no input 'c'"),
    (lambda made: made.enqueue("x"), InputInvalid, "'x'"),
    (lambda made: made.options(key="k").enqueue(1, delay=3), InputInvalid, "no input 'delay'"),
    (lambda made: made.enqueue(1, delay=-1), DefinitionError, "The delay of a start cannot be -1"),
    (lambda made: made.enqueue(1, delay="-5m"), DefinitionError, "cannot be '-5m'"),
    (lambda made: made.enqueue(1, delay=timedelta(-1)), DefinitionError, "The delay of a start"),
    (lambda made: made.enqueue(1, delay="soon"), DefinitionError, "cannot be 'soon'"),
    (lambda made: made.enqueue(1, delay=float("nan")), DefinitionError, "cannot be nan"),
    (lambda made: made.enqueue(1, delay=float("inf")), DefinitionError, "cannot be inf"),
    (lambda made: made.enqueue(1, delay="400d"), DefinitionError, "cannot be '400d'"),
    (lambda made: made.enqueue(1, delay=True), DefinitionError, "cannot be True"),
    (lambda made: made.enqueue(1, delay=datetime.now(UTC) - timedelta(1)), DefinitionError, "which is over"),
    (lambda made: made.enqueue(1, delay=datetime.now(UTC) + timedelta(400)), DefinitionError, "more than a year"),
    (lambda made: made.enqueue(1, delay=datetime.max.replace(tzinfo=UTC)), DefinitionError, "more than a year"),
    (lambda made: made.enqueue(1, delay=datetime.min.replace(tzinfo=UTC)), DefinitionError, "which is over"),
    (lambda made: made.enqueue(1, priority=1000), DefinitionError, "The priority of a run cannot be 1000"),
    (lambda made: made.enqueue(1, priority="1"), DefinitionError, "cannot be '1'"),
    (lambda made: made.enqueue(1, queue="no queue"), DefinitionError, "'no queue'"),
    (lambda made: made.enqueue(1, key=""), DefinitionError, "1 to 200 characters"),
    (lambda made: made.options(colour="red"), TypeError, "colour"),
]


@pytest.mark.parametrize(("enqueue", "error", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_what_cannot_be_enqueued(site: Site, enqueue: Callable[[Any], Any], error: type[Exception], said: str) -> None:
    made = job(add)
    before = len(site.nbflow.index.runs(flow="add"))
    with pytest.raises(error) as caught:
        enqueue(made)
    assert said in str(caught.value)
    assert len(site.nbflow.index.runs(flow="add")) == before


def test_a_delay_beyond_the_deadline_is_refused(site: Site) -> None:
    """The deadline counts from the launch: such a run would fail before it began."""
    flow = site.flow(deadline="10s")

    @flow.entry
    def begin() -> int:
        return 1

    for delay in (10, "1m", datetime.now(UTC) + timedelta(minutes=1)):
        with pytest.raises(CommandRefused, match="beyond its deadline of 10 s"):
            flow.options(delay=delay).start()
    assert site.nbflow.index.runs(flow=flow.name) == []


def test_of_many_inputs_none_is_started_if_one_does_not_fit(site: Site) -> None:
    made = job(add)
    before = len(site.nbflow.index.runs(flow="add"))
    with pytest.raises(InputInvalid, match="'x'"):
        made.flow.start_many([{"a": 1}, {"a": "x"}, {"a": 3}])
    assert len(site.nbflow.index.runs(flow="add")) == before
    assert made.flow.start_many([]) == []
