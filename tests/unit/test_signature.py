"""What a step receives becomes its arguments: by name or in order, validated as annotated."""

# ruff: noqa: ARG005 - what a function does with its parameters is not the question here, but how they are called

from __future__ import annotations

import dataclasses
import pickle
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Protocol

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, Field

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition
from nbflow.define.forms import NOTHING, Nothing, any_of, collect, completed, each, failed, resolve, subscriptions_of
from nbflow.define.returns import ReturnTypes
from nbflow.define.signature import Binder, InvalidPayload, check_binding
from nbflow.errors import DefinitionError
from nbflow.model.definition import Term

if typing.TYPE_CHECKING:
    from nowhere import Context, Unknown  # type: ignore[import-not-found]


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


class Order(BaseModel):
    id: int
    total: float


@dataclasses.dataclass
class Point:
    x: int


class Pricer(Protocol):
    def price(self) -> float: ...


class KeptList(list[Any]):
    failed: typing.ClassVar[dict[str, str]] = {}


def terms(subscribes: object, *mapped: str) -> tuple[Term, ...]:
    return resolve(subscriptions_of(subscribes), mapped)  # type: ignore[arg-type]


def call(function: Callable[..., Any], subscribes: object, *received: Any, ctx: Any = None) -> Any:
    """Call a function with payloads in the order of its topics, or with `(topic, payload)` of an any_of."""
    found = terms(subscribes)
    topics = [topic for term in found for topic in (term.topics if not term.any_of else ("",))]
    pairs = [value if topic == "" else (topic, value) for topic, value in zip(topics, received, strict=True)]
    args, kwargs = Binder(function, found).bind(pairs, ctx)
    return function(*args, **kwargs)


def everything(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


# ── binding ──


def test_the_payload_of_one_subscription_is_the_first_parameter() -> None:
    assert call(lambda x: x, "a", 5) == 5
    assert call(lambda x, y=2: (x, y), "a", 5) == (5, 2)
    assert call(lambda *, x: x, "a", 5) == 5
    assert call(lambda x, /: x, "a", 5) == 5


def test_a_function_without_parameters_only_waits() -> None:
    assert call(lambda: "ran", "a", 5) == "ran"
    assert call(lambda ctx: ctx, "a", 5, ctx="context") == "context"


def test_several_are_bound_by_name_if_every_parameter_is_called_like_one() -> None:
    assert call(lambda b, a: (a, b), ["a", "b"], 1, 2) == (1, 2)
    assert call(lambda order_priced, parse: (order_priced, parse), ["step:parse", "order.priced"], 1, 2) == (2, 1)
    assert call(lambda b, a, scale=10: (a, b, scale), ["a", "b"], 1, 2) == (1, 2, 10)
    assert call(lambda b: b, ["a", "b"], 1, 2) == 2


def test_else_they_are_bound_in_order() -> None:
    assert call(lambda x, y: (x, y), ["a", "b"], 1, 2) == (1, 2)
    assert call(lambda x, a: (x, a), ["a", "b"], 1, 2) == (1, 2)
    assert call(lambda x, y, z=3: (x, y, z), ["a", "b"], 1, 2) == (1, 2, 3)


def test_one_parameter_for_several_gets_a_dict_keyed_by_topic() -> None:
    assert call(lambda both: both, ["order.priced", "step:parse"], 1, 2) == {"order.priced": 1, "parse": 2}


def test_a_topic_and_a_step_of_one_name_are_kept_apart() -> None:
    assert call(lambda both: both, ["parse", "step:parse"], 1, 2) == {"parse": 1, "step:parse": 2}


def test_variadic_parameters_take_what_is_left() -> None:
    assert call(everything, "a", 1) == ((1,), {})
    assert call(lambda **kw: kw, ["a", "order.priced"], 1, 2) == {"a": 1, "order_priced": 2}
    assert call(lambda x, *rest: (x, rest), ["a", "b", "c"], 1, 2, 3) == (1, (2, 3))
    assert call(lambda a, **kw: (a, kw), ["a", "b"], 1, 2) == (1, {"b": 2})


def test_any_of_binds_what_came() -> None:
    form = any_of("order.priced", "step:parse")
    assert call(lambda event: event, form, ("order.priced", 1)) == ("order.priced", 1)
    assert call(lambda event: event, form, ("step:parse", 2)) == ("parse", 2)
    assert call(lambda order_priced, parse: (order_priced, parse), form, ("step:parse", 2)) == (None, 2)
    assert call(lambda event, c: (event, c), [form, "c"], ("step:parse", 2), 3) == (("parse", 2), 3)
    assert call(lambda c, parse: (c, parse), [form, "c"], ("order.priced", 2), 3) == (3, None)
    assert call(lambda **kw: kw, form, ("step:parse", 2)) == {"parse": 2}


def test_each_of_several_is_bound_like_several() -> None:
    assert call(lambda b, a: (a, b), each("a", "b"), 1, 2) == (1, 2)
    assert call(lambda pair: pair, each("a", "b"), 1, 2) == {"a": 1, "b": 2}
    assert call(lambda item, table: (item, table), [each("a"), collect("b")], 1, [2]) == (1, [2])


def test_a_failure_goes_by_the_name_of_its_step() -> None:
    assert call(lambda failed_parse, a: (failed_parse, a), ["a", failed("parse")], 1, {"error": "x"}) == (
        {"error": "x"},
        1,
    )
    assert call(lambda parse, a: (parse, a), ["a", failed("parse")], 1, {"error": "x"}) == ({"error": "x"}, 1)


def test_the_context_is_given_by_name_or_annotation() -> None:
    kind = type("Context", (), {"__module__": "nbflow.worker.context"})

    def annotated(x, c):  # type: ignore[no-untyped-def]
        return x, c

    annotated.__annotations__ = {"c": kind}

    def unresolved(c: Context, x: int) -> Any:
        return x, c

    assert call(annotated, "a", 1, ctx="ctx") == (1, "ctx")
    assert call(unresolved, "a", 1, ctx="ctx") == (1, "ctx")
    assert call(lambda ctx, b, a: (ctx, a, b), ["a", "b"], 1, 2, ctx="ctx") == ("ctx", 1, 2)
    assert call(lambda a, b, *, ctx: (ctx, a, b), ["a", "b"], 1, 2, ctx="ctx") == ("ctx", 1, 2)


def test_a_default_fills_the_gap_before_a_parameter_that_goes_by_position() -> None:
    assert call(lambda x=9, ctx=None, /: (x, ctx), ["a", "b"], 1, 2, ctx="c") == ({"a": 1, "b": 2}, "c")


@pytest.mark.parametrize(
    ("function", "subscribes"),
    [
        (lambda x, y: None, "a"),
        (lambda x=1, *, y: None, "a"),
        (lambda x, y, z: None, ["a", "b"]),
        (lambda x, y: None, ["a", "b", "c"]),
        (lambda x, y: None, any_of("a", "b")),
    ],
)
def test_parameters_that_can_never_be_bound_are_refused(function: Callable[..., Any], subscribes: object) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_binding(function, terms(subscribes))
    assert caught.value.hint


# ── validation ──


def frame_step(frame: pd.DataFrame) -> Any:
    return frame


def frames_step(frames: list[pd.DataFrame]) -> Any:
    return frames


def order_step(order: Order) -> Any:
    return order


def point_step(point: Point | None) -> Any:
    return point


def int_step(number: int) -> Any:
    return number


def positive_step(number: Annotated[int, Field(gt=0)]) -> Any:
    return number


def array_step(array: np.ndarray) -> Any:
    return array


def protocol_step(pricer: Pricer) -> Any:
    return pricer


def lazy_step(numbers: Iterable[int]) -> Any:
    return numbers


def unknown_step(thing: Unknown) -> Any:
    return thing


def pair_step(event: tuple[str, int]) -> Any:
    return event


def both_step(both: dict[str, int]) -> Any:
    return both


def test_a_payload_is_made_what_its_annotation_says() -> None:
    assert call(order_step, "a", {"id": 1, "total": "2.5"}) == Order(id=1, total=2.5)
    assert call(point_step, "a", {"x": 1}) == Point(1)
    assert call(point_step, "a", None) is None
    assert call(int_step, "a", "7") == 7
    assert call(pair_step, any_of("a", "b"), ("a", "7")) == ("a", 7)
    assert call(both_step, ["a", "b"], "1", 2) == {"a": 1, "b": 2}


def test_other_classes_are_checked_and_handed_on_as_they_are() -> None:
    frame = pd.DataFrame({"a": [1]})
    assert call(frame_step, "a", frame) is frame
    assert call(frames_step, collect("a"), [frame])[0] is frame
    array = np.zeros(3)
    assert call(array_step, "a", array) is array
    numbers = [1, 2]
    assert call(lazy_step, "a", numbers) is numbers
    assert call(protocol_step, "a", 1) == 1
    assert call(unknown_step, "a", 1) == 1


@pytest.mark.parametrize(
    ("function", "value", "said"),
    [
        (
            order_step,
            {"id": 1, "total": "much"},
            ["'orders.new'", "order_step()", "order.total is 'much'", "valid number"],
        ),
        (order_step, {"total": "much"}, ["order.id is missing (and 1 more)"]),
        (int_step, "seven", ["'orders.new'", "number is 'seven'"]),
        (positive_step, -1, ["number is -1", "greater than 0"]),
        (frame_step, [1], ["frame is [1]", "instance of DataFrame"]),
        (frames_step, [pd.DataFrame(), np.zeros((2, 3))], ["frames.1 is a ndarray of shape (2, 3)"]),
        (lazy_step, 5, ["numbers is 5", "Iterable"]),
        (point_step, "x" * 500, ["point is 'xxx", "..."]),
    ],
)
def test_a_mismatch_names_the_topic_the_field_and_the_value(
    function: Callable[..., Any], value: object, said: list[str]
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        call(function, "orders.new", value)
    text = str(caught.value)
    assert all(part in text for part in said), text
    assert len(text) < 400
    assert caught.value.reason == "invalid_input"
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


def test_a_list_that_carries_its_failures_stays_one() -> None:
    kept = KeptList(["1", 2])
    kept.failed = {"b.csv": "error"}  # type: ignore[misc]

    def merge(parts: list[int]) -> Any:
        return parts

    merged = call(merge, collect("a", failures="keep"), kept)
    assert merged == [1, 2]
    assert merged.failed == {"b.csv": "error"}
    assert kept == ["1", 2]


def test_a_parameter_without_annotation_is_held_to_what_the_emitter_says() -> None:
    binder = Binder(lambda order: order, terms("a"), fallback={"a": Order})
    assert binder.bind([("a", {"id": 1, "total": 2})])[0] == (Order(id=1, total=2),)
    with pytest.raises(InvalidPayload, match=r"order\.total is missing"):
        binder.bind([("a", {"id": 1})])
    own = Binder(unknown_step, terms("a"), fallback={"a": Order})
    assert own.bind([("a", 7)])[0] == (7,), "an annotation that cannot be resolved is still the author's own"


def test_what_each_step_receives_is_read_from_the_results() -> None:
    flow = FlowDefinition("f")

    @flow.entry
    def files() -> list[Path]: ...

    @flow.step(each(files))
    def parse(path): ...  # type: ignore[no-untyped-def]

    @flow.step(each("step:spread"), emits=["priced"])
    def price(item) -> Order: ...  # type: ignore[no-untyped-def]

    @flow.step("by.hand", emits=["by.hand.too"])
    def manual(x, ctx) -> int:  # type: ignore[no-untyped-def]
        return ctx.emit("by.hand.too", "text")

    @flow.entry
    def spread() -> Iterator[int]:
        yield 1

    @flow.entry(emits=["may.come"])
    def maybe() -> int | Nothing:
        return NOTHING

    flow.step([collect(price), completed(files), failed("parse"), any_of("priced", "by.hand.too")], name="end")(
        everything
    )
    flow.step([completed("parse"), completed("price"), "may.come", spread], name="last")(everything)
    types = ReturnTypes(flow.spec(), {step.name: step.function for step in flow.steps()})
    received = {step.name: types.received_by(step) for step in flow.spec().steps}
    assert received["parse"] == {"each:files": Path}
    assert received["price"] == {"each:spread": int}
    assert received["end"] == {
        "step:price": list[Order],
        "step:files": list[Path],
        "failed:parse": dict,
        "priced": Order,
    }
    assert received["last"] == {"step:price": list[Order], "may.come": int, "step:spread": list[int]}


def test_a_class_that_is_defined_again_is_the_one_that_counts() -> None:
    """An annotation that is text is read when the flow is used, as the body of the function would read it."""
    cell: dict[str, Any] = {}
    code = "from __future__ import annotations\nclass Thing: pass\ndef take(thing: Thing): return thing"
    exec(code, cell)
    first = cell["Thing"]()
    assert call(cell["take"], "a", first) is first
    exec("class Thing: pass", cell)
    with pytest.raises(InvalidPayload):
        call(cell["take"], "a", first)


# ── entries ──


def test_an_entry_takes_its_parameters_from_the_input() -> None:
    def start(folder: Path, limit: int = 3, *, ctx: Any = None) -> Any:
        return folder, limit, ctx

    binder = Binder(start, ())
    args, kwargs = binder.bind_input({"folder": "data", "of_another_entry": 1}, "ctx")
    assert start(*args, **kwargs) == (Path("data"), 3, "ctx")
    with pytest.raises(InvalidPayload, match="the input does not fit"):
        binder.bind_input({"folder": 3})
    with pytest.raises(InvalidPayload, match="has no 'folder'"):
        binder.bind_input({})


def test_an_entry_may_take_by_position_and_all_the_rest() -> None:
    def start(a, ctx, b=2, /, *, c=3, **rest):  # type: ignore[no-untyped-def]
        return a, ctx, b, c, rest

    args, kwargs = Binder(start, ()).bind_input({"a": 1, "c": 4, "d": 5}, "ctx")
    assert start(*args, **kwargs) == (1, "ctx", 2, 4, {"d": 5})


def test_an_entry_cannot_take_its_input_by_position_only() -> None:
    with pytest.raises(DefinitionError, match=r"\*files"):
        FlowDefinition("f").entry(name="start")(lambda *files: None)


def test_a_parameter_without_annotation_costs_nothing() -> None:
    """A payload that nothing is said about is handed on as the very object that came."""
    thing = SimpleNamespace()
    assert call(lambda x: x, "a", thing) is thing
    numbers = [1]

    def exact(numbers: list) -> Any:  # type: ignore[type-arg]
        return numbers

    assert call(exact, "a", numbers) is numbers
