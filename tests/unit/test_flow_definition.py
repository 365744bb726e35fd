"""A flow is declared by decorating functions, which stay what they were."""

# ruff: noqa: ARG005 - what a function does with its parameters is not the question here, but how they are called

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import cloudpickle
import networkx as nx
import pytest

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition, step
from nbflow.define.forms import any_of, collect, completed, each, failed, resolve, subscriptions_of
from nbflow.define.graph import build_graph, cycles
from nbflow.errors import DefinitionError, FlowShapeError, InputInvalid
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


def test_a_flow_as_data(etl: FlowDefinition) -> None:
    assert etl.spec() == FlowSpec(
        "etl",
        (
            StepSpec("list_files", doc="Find the files."),
            StepSpec("parse", (Term(Form.EACH, ("each:list_files",)),), queue="fast", has_key=True),
            StepSpec("merge", (Term(Form.COLLECT, ("step:parse",)),), ("merged",)),
        ),
        result="merge",
    )
    assert [declaration.role for declaration in etl.steps()] == ["entry", "step", "step"]
    assert etl.declaration("parse").spec is etl.spec().step("parse")


def test_a_decorated_function_stays_what_it_was() -> None:
    flow = FlowDefinition("f")

    def double(x: int = 2) -> int:
        return 2 * x

    decorated = flow.entry(double)
    assert decorated is double
    assert decorated(3) == 6
    assert str(inspect.signature(double)) == "(x: 'int' = 2) -> 'int'"
    assert decorated.step.name == "double"
    assert decorated.step.function is double


def test_the_spec_is_the_same_object_until_something_changes(etl: FlowDefinition) -> None:
    before = etl.spec()
    assert etl.spec() is before

    @etl.step("step:merge")
    def report(total: int) -> None: ...

    assert etl.spec() is not before
    assert etl.spec().step("report").terms == (Term(Form.FIRST, ("step:merge",)),)


def test_a_step_named_before_it_is_defined_is_resolved_when_it_comes() -> None:
    flow = FlowDefinition("f")

    @flow.step(each("step:split"))
    def use(item: int) -> None: ...

    assert flow.spec().step("use").terms[0].topics == ("each:split",)

    @flow.step(each("start"))
    def split(item: int) -> list[int]:
        return [item]

    assert flow.spec().step("use").terms[0].topics == ("step:split",)


def test_objects_of_one_name_are_handles_on_one_flow(etl: FlowDefinition) -> None:
    again = FlowDefinition("etl", queue="slow")
    assert [declaration.name for declaration in again.steps()] == ["list_files", "parse", "merge"]
    assert etl.spec().result is None
    assert [step.queue for step in etl.spec().steps] == ["slow", "fast", "slow"]
    assert registry.get("etl").handle is again


def test_the_result_may_be_named_by_its_function(etl: FlowDefinition) -> None:
    assert FlowDefinition("etl", result=etl.declaration("parse").function).spec().result == "parse"
    assert FlowDefinition("etl", result="step:merge").spec().result == "merge"
    with pytest.raises(DefinitionError, match="which is no step"):
        FlowDefinition("etl", result="order.priced")


def test_bare_decorators_make_entries() -> None:
    flow = FlowDefinition("f")

    @flow.entry
    def one() -> None: ...

    @flow.step
    def two() -> None: ...

    @flow.step(emits=["t"])
    def three() -> None: ...

    assert [declaration.role for declaration in flow.steps()] == ["entry"] * 3


def test_subscriptions_may_be_given_by_keyword() -> None:
    flow = FlowDefinition("f")

    @flow.step(subscribes=["a", any_of("b", "c")])
    def join(a: int, b: int | None, c: int | None) -> None: ...

    assert len(join.step.subscriptions) == 2
    with pytest.raises(DefinitionError, match="given twice"):
        flow.step("a", subscribes="b")  # type: ignore[call-overload]


def test_the_long_form_makes_a_step_of_each_flow_on_its_own() -> None:
    first = FlowDefinition("first")

    @step(flows=[first, "second"], subscribes="start", emits=["ended"], name="work")
    def do_it(x: int) -> None: ...

    assert do_it.step.flow == "second"
    assert sorted(do_it.steps) == ["first", "second"]
    assert first.spec().step("work") == FlowDefinition("second").spec().step("work")
    first.forget("work")
    assert first.steps() == []
    assert [declaration.name for declaration in FlowDefinition("second").steps()] == ["work"]


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"flows": []}, "names no flow"),
        ({"flows": "f", "role": "entry", "subscribes": "a"}, "subscribes to nothing"),
        ({"flows": "f"}, "never runs"),
        ({"flows": "f", "role": "entri"}, "no role 'entri'"),
        ({"flows": "a b", "role": "entry"}, "cannot be called 'a b'"),
    ],
)
def test_the_long_form_says_what_it_lacks(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        step(**keywords)


@pytest.mark.parametrize("name", ["step-7", "a__attempt-b", "a b", "<lambda>", "", "7a", "x" * 101])
def test_a_name_that_would_be_read_as_part_of_an_id_is_refused(name: str) -> None:
    flow = FlowDefinition("f")
    with pytest.raises(DefinitionError, match="cannot be called") as caught:
        flow.entry(name=name)(lambda: None)
    assert "name=" in caught.value.hint
    assert flow.steps() == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "ä", "x" * 101])
def test_a_flow_needs_a_name_that_fits_into_a_key(name: str) -> None:
    with pytest.raises(DefinitionError, match="cannot be called"):
        FlowDefinition(name)


@pytest.mark.parametrize(("keyword", "nearest"), [("emit", "emits"), ("ques", "queue"), ("retry", "Known")])
def test_an_unknown_keyword_is_named_with_the_nearest_known(keyword: str, nearest: str) -> None:
    flow = FlowDefinition("f")
    with pytest.raises(DefinitionError, match=f"no keyword '{keyword}'") as caught:
        flow.step("a", **{keyword: 1})  # type: ignore[call-overload]
    assert nearest in caught.value.hint


@pytest.mark.parametrize("emits", ["a b", ["a", "a"], "step:a", [7]])
def test_topics_that_cannot_be_emitted_are_refused(emits: Any) -> None:
    flow = FlowDefinition("f")
    with pytest.raises(DefinitionError):
        flow.entry(emits=emits)(lambda: None)


def test_a_key_needs_elements_to_name() -> None:
    flow = FlowDefinition("f")
    with pytest.raises(DefinitionError, match="names elements"):
        flow.step("a", name="s", key=str)(lambda a: a)
    with pytest.raises(DefinitionError, match="no keyword 'key'"):
        flow.entry(key=str)  # type: ignore[call-overload]


@pytest.mark.parametrize("thing", [len, int, 7, [].append, Path().exists])
def test_only_functions_are_steps(thing: Any) -> None:
    with pytest.raises(DefinitionError, match="cannot be a step"):
        FlowDefinition("f").entry(name="s")(thing)


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


def test_forget_takes_a_step_out(etl: FlowDefinition) -> None:
    etl.forget("parse")
    assert [declaration.name for declaration in etl.steps()] == ["list_files", "merge"]
    with pytest.raises(DefinitionError, match="has no step 'merg'") as caught:
        etl.forget("merg")
    assert "'merge'" in caught.value.hint
    with pytest.raises(DefinitionError, match="Did you mean 'merge'"):
        etl.declaration("merg")


def test_a_step_travels_without_its_cell(etl: FlowDefinition) -> None:
    """The same code is the same bundle, whenever its cell ran."""
    registry.cell_locator = lambda: registry.CellId("c1", "7")

    @etl.step("merged")
    def report(total: int) -> FlowDefinition:
        return etl

    assert report.step.cell == ("c1", "7")
    copied = cloudpickle.loads(cloudpickle.dumps(report))
    assert copied.step.cell is None
    assert copied.step.name == "report"
    assert copied(1).name == "etl"


def test_a_handle_that_travels_leaves_the_flow_as_it_is(etl: FlowDefinition) -> None:
    assert pickle.loads(pickle.dumps(etl)).spec() is etl.spec()
    assert etl.spec().result == "merge"


def test_the_input_is_made_of_the_entries(etl: FlowDefinition) -> None:
    assert etl.validate_input({"folder": "x"}) == {"folder": Path("x")}
    assert etl.validate_input({}) == {"folder": Path("data")}
    assert etl.bind_input(("y",), {}) == {"folder": "y"}
    assert [*etl.input_model().model_json_schema()["properties"]] == ["folder"]
    with pytest.raises(InputInvalid, match="no input 'foldr'"):
        etl.validate_input({"foldr": 1})


def test_declaring_a_flow_loads_neither_networkx_nor_pandas_nor_pydantic() -> None:
    code = (
        "import sys, nbflow.define.flow, nbflow.define.forms; "
        "heavy = {'networkx', 'pandas', 'pydantic', 'IPython', 'redis', 'rq'} & sys.modules.keys(); "
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
