"""Forms say what a step subscribes to, and become terms once it is known which steps are mapped."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition
from nbflow.define.forms import NOTHING, any_of, collect, completed, each, failed, resolve, subscriptions_of
from nbflow.errors import DefinitionError, FlowShapeError
from nbflow.model.definition import Form, Term


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def terms(subscribes: object, *mapped: str) -> tuple[Term, ...]:
    return resolve(subscriptions_of(subscribes), mapped)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subscribes", "mapped", "expected"),
    [
        ("order.priced", (), [Term(Form.FIRST, ("order.priced",))]),
        ("step:parse", (), [Term(Form.FIRST, ("step:parse",))]),
        (["a", "step:b"], (), [Term(Form.FIRST, ("a",)), Term(Form.FIRST, ("step:b",))]),
        (each("a"), (), [Term(Form.EACH, ("a",))]),
        (each("step:s"), (), [Term(Form.EACH, ("each:s",))]),
        (each("step:s"), ("s",), [Term(Form.EACH, ("step:s",))]),
        (each("a", "step:s"), ("s",), [Term(Form.EACH, ("a", "step:s"))]),
        (each(failed("s")), (), [Term(Form.EACH, ("failed:s",))]),
        (collect("step:s"), (), [Term(Form.COLLECT, ("step:s",))]),
        (collect("a"), (), [Term(Form.COLLECT, ("a",))]),
        (collect("step:s", failures="keep"), ("s",), [Term(Form.KEEP, ("step:s",))]),
        (any_of("a", "step:b"), (), [Term(Form.FIRST, ("a", "step:b"), any_of=True)]),
        (completed("step:s"), ("s",), [Term(Form.COMPLETED, ("step:s",))]),
        (completed("s"), (), [Term(Form.COMPLETED, ("step:s",))]),
        (failed("s"), ("s",), [Term(Form.FIRST, ("failed:s",))]),
        ([each("a"), collect("b")], (), [Term(Form.EACH, ("a",)), Term(Form.COLLECT, ("b",))]),
    ],
)
def test_a_form_becomes_a_term(subscribes: object, mapped: tuple[str, ...], expected: list[Term]) -> None:
    assert terms(subscribes, *mapped) == tuple(expected)


def test_a_function_that_is_a_step_stands_for_it() -> None:
    flow = FlowDefinition("f")

    @flow.entry
    def load() -> list[int]:
        return []

    assert terms(each(load)) == terms(each("step:load"))
    assert terms([load]) == terms("step:load")
    assert terms(completed(load)) == terms(completed("load"))


def test_a_function_of_several_flows_is_called_as_the_flow_calls_it() -> None:
    first, second = FlowDefinition("first"), FlowDefinition("second")

    @second.entry(name="fetch")
    @first.entry(name="load")
    def read() -> int:
        return 1

    @first.step(read)
    def use_first(value: int) -> None: ...

    @second.step(read)
    def use_second(value: int) -> None: ...

    assert first.spec().step("use_first").terms == (Term(Form.FIRST, ("step:load",)),)
    assert second.spec().step("use_second").terms == (Term(Form.FIRST, ("step:fetch",)),)


@pytest.mark.parametrize(
    "make",
    [
        lambda: each(collect("a")),
        lambda: collect(each("a")),  # type: ignore[arg-type]
        lambda: any_of("a", failed("b")),  # type: ignore[arg-type]
        lambda: completed(failed("b")),  # type: ignore[arg-type]
        lambda: each("a", failed("b")),
        lambda: each(each("a")),
    ],
)
def test_forms_do_not_nest(make: object) -> None:
    with pytest.raises(FlowShapeError, match="do not nest"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "subscribes", [["a", "a"], ["a", each("a")], [completed("s"), failed("s")], [each("a"), each("b")], []]
)
def test_what_no_later_cell_can_cure_is_refused_at_once(subscribes: list[object]) -> None:
    with pytest.raises(FlowShapeError):
        subscriptions_of(subscribes)  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", ["order priced", "", "steps:a", "step:a b", "step:", 7, None, len, {"a": 1}])
def test_what_names_neither_topic_nor_step_is_refused(thing: object) -> None:
    with pytest.raises(DefinitionError) as caught:
        subscriptions_of(thing)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_function_that_is_no_step_is_said_to_be_none() -> None:
    def plain() -> None: ...

    with pytest.raises(DefinitionError, match="plain is a function, but not a step"):
        each(plain)


def test_failed_and_completed_are_about_steps_only() -> None:
    with pytest.raises(DefinitionError, match="only steps end"):
        failed("order.priced")


def test_any_of_one_is_no_choice_and_twice_the_same_is_none_either() -> None:
    with pytest.raises(DefinitionError, match="at least two"):
        any_of("a")
    with pytest.raises(FlowShapeError, match="twice"):
        any_of("a", "a")


def test_an_unknown_way_to_treat_failures_is_refused() -> None:
    with pytest.raises(DefinitionError, match="failures='drop'"):
        collect("a", failures="drop")  # type: ignore[arg-type]


def test_there_is_one_nothing_also_after_a_journey() -> None:
    assert pickle.loads(pickle.dumps(NOTHING)) is NOTHING
    assert copy.deepcopy(NOTHING) is NOTHING
    assert repr(NOTHING) == "NOTHING"
