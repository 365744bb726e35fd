"""A flow is declared by decorating functions, which stay what they were."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition, step
from nbflow.define.forms import any_of, collect, each
from nbflow.errors import DefinitionError, InputInvalid
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


@pytest.mark.parametrize(("keyword", "nearest"), [("emit", "emits"), ("ques", "queue"), ("hol", "hold")])
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
