"""Steps feed each other; a cycle must pass an each, and no step may wait for its own end."""

# ruff: noqa: ARG005 - what a function does with its parameters is not the question here, but how they are called

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import pytest

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition
from nbflow.define.forms import any_of, collect, completed, each, failed, resolve, subscriptions_of
from nbflow.define.graph import build_graph, cycles
from nbflow.errors import FlowShapeError
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


@pytest.fixture
def etl() -> FlowDefinition:
    flow = FlowDefinition("etl", result="merge")

    @flow.entry
    def list_files(folder: Path = Path("data")) -> list[Path]:
        """Find the files.

        All of them.
        """
        return [folder]

    @flow.step(each(list_files), key=lambda path: path.name, queue="fast")
    def parse(path: Path) -> dict[str, int]:
        return {str(path): 1}

    @flow.step(collect(parse), emits="merged")
    def merge(parts: list[dict[str, int]]) -> int:
        return len(parts)

    return flow


def test_a_cycle_without_each_is_refused_and_the_step_is_not_registered() -> None:
    flow = FlowDefinition("f")

    @flow.step(any_of("start", "again"), emits=["next"])
    def first(event: tuple[str, int]) -> None: ...

    with pytest.raises(FlowShapeError, match="second → first → second") as caught:

        @flow.step("next", emits=["again"])
        def second(value: int) -> None: ...

    assert "each" in caught.value.hint
    assert [declaration.name for declaration in flow.steps()] == ["first"]

    @flow.step(each("next"), emits=["again"], name="second")
    def mapped(value: int) -> None: ...

    assert cycles(flow.spec()) == [["first", "second"]]


def test_a_step_in_a_cycle_may_not_wait_for_its_end() -> None:
    """Nested as deep as it likes: what collects would wait for itself."""
    for form in (collect("step:walk"), collect("step:walk", failures="keep"), completed("walk")):
        registry.reset()
        flow = FlowDefinition("f")

        @flow.step(each("found"), emits=["seen"])
        def walk(item: int) -> None: ...

        with pytest.raises(FlowShapeError, match="wait for its own end"):
            flow.step(form, emits=["found"], name="gather")(lambda items: None)
        assert [declaration.name for declaration in flow.steps()] == ["walk"]


def test_a_cycle_that_fails_leaves_the_earlier_step_in_place() -> None:
    flow = FlowDefinition("f")
    flow.entry(name="a", emits=["t"])(lambda: 1)
    flow.step("t", name="b", emits=["u"])(lambda t: 2)
    before = flow.spec()
    with pytest.raises(FlowShapeError):
        flow.step("u", name="a", emits=["t"])(lambda u: 3)
    assert flow.spec() == before
    flow.step("u", name="c")(lambda u: 4)
    assert flow.findings() == []


def test_a_step_may_feed_itself_through_each() -> None:
    flow = FlowDefinition("f")

    @flow.step(each("page"), emits=["page"])
    def crawl(page: str) -> None: ...

    assert cycles(flow.spec()) == [["crawl"]]


def test_cycles_are_groups_of_steps_in_order_of_definition() -> None:
    def spec(name: str, topics: str, emits: str, form: Form = Form.EACH) -> StepSpec:
        return StepSpec(name, (Term(form, tuple(topics.split())),), tuple(emits.split()))

    flow = FlowSpec(
        "f",
        (
            spec("c", "b", "c"),
            StepSpec("start", emits=("b", "x")),
            spec("b", "c", "b"),
            spec("x", "x", "x"),
            spec("step", "step:b", ""),
            spec("retry", "failed:again", "t"),
            spec("again", "t", ""),
        ),
    )
    assert cycles(flow) == [["c", "b"], ["x"], ["retry", "again"]]


def test_cycles_and_refusals_agree_with_the_plain_reading_of_the_rule() -> None:
    """A flow grows step by step at random: a step is refused exactly when the graph would have a cycle without each,
    or a form that waits for the end inside a cycle."""
    random = Random(7)
    forms: list[Callable[[str], Any]] = [str, each, each, each, collect, completed]
    refused = 0
    for _ in range(300):
        registry.reset()
        flow = FlowDefinition("f")
        size = random.randint(2, 7)
        for name in random.sample([f"s{number}" for number in range(size)], size):
            before = flow.spec()
            feeds = random.sample([f"step:s{number}" for number in range(size)], random.randint(1, min(2, size)))
            written = [random.choice(forms)(feed) for feed in feeds]
            if sum(getattr(form, "is_mapped", False) for form in written) > 1:
                continue
            new = StepSpec(name, resolve(subscriptions_of(written), ()))
            wanted = _is_allowed(FlowSpec("f", (*before.steps, new)))
            try:
                flow.step(written, name=name)(lambda *payloads: None)
            except FlowShapeError:
                refused += 1
                assert not wanted, (before, new)
                assert flow.spec() == before
            else:
                assert wanted, (before, new)
        components = nx.strongly_connected_components(nx.DiGraph(flow.graph))
        circles = {frozenset(c) for c in components if len(c) > 1 or flow.graph.has_edge(*(min(c),) * 2)}
        assert {frozenset(group) for group in cycles(flow.spec())} == circles
    assert 100 < refused < 1000


def _is_allowed(spec: FlowSpec) -> bool:
    graph = build_graph(spec)
    plain = nx.DiGraph((a, b) for a, b, data in graph.edges(data=True) if data["form"] is not Form.EACH)
    if not nx.is_directed_acyclic_graph(plain):
        return False
    waiting = (Form.COLLECT, Form.KEEP, Form.COMPLETED)
    return not any(data["form"] in waiting and nx.has_path(graph, b, a) for a, b, data in graph.edges(data=True))


def test_the_graph_is_one_of_networkx(etl: FlowDefinition) -> None:
    @etl.step(failed("parse"))
    def warn(failure: dict[str, Any]) -> None: ...

    @etl.step(any_of("merged", warn))
    def tell(event: tuple[str, Any]) -> None: ...

    graph = etl.graph
    assert list(graph.nodes) == ["list_files", "parse", "merge", "warn", "tell"]
    assert graph.nodes["parse"] == {"role": "step", "doc": "", "queue": "fast", "mapped": True, "label": "parse"}
    labels = {(source, target): data["label"] for source, target, data in graph.edges(data=True)}
    assert labels == {
        ("list_files", "parse"): "each",
        ("parse", "merge"): "collect",
        ("parse", "warn"): "failed",
        ("merge", "tell"): "any_of merged",
        ("warn", "tell"): "any_of",
    }
    assert graph.edges["list_files", "parse", "each:list_files"]["form"] is Form.EACH
