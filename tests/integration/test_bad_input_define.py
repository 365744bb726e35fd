"""What is wrong before a run exists: each wish is one clear error, and nothing of it is written."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbflow import Flow, collect, completed, each
from nbflow.app import Nbflow
from nbflow.define import registry
from nbflow.define.flow import step
from nbflow.define.registry import CellId
from nbflow.engine.options import Options
from nbflow.errors import (
    CaptureError,
    CommandRefused,
    DefinitionError,
    FlowShapeError,
    InputInvalid,
    KeyTaken,
    PayloadError,
    StepNameTaken,
    UnknownFlow,
)
from nbflow.store.connect import Store
from tests.bad_input import nothing_written, refused
from tests.site import SECRET


@pytest.fixture
def nbflow(valkey_store: Store, tmp_path: Path) -> Iterator[Nbflow]:
    with Nbflow(valkey_store.url, secret=SECRET, project=tmp_path) as opened:
        yield opened


def takes_anything(**options: Any) -> Flow:
    flow = Flow("anything", **options)

    @flow.entry
    def take(thing: Any = None, other: Any = None) -> None: ...

    return flow


# -- payloads of a start --------------------------------------------------------------------------------------------------


def test_an_input_that_cannot_come_back_is_refused_with_its_path(nbflow: Nbflow) -> None:
    start = takes_anything().options(on=nbflow).start
    with nothing_written(nbflow), refused(PayloadError, "`input['thing']`", "lock"):
        start(thing=threading.Lock())
    with nothing_written(nbflow), refused(PayloadError, "`input['thing']['deep'][1].", "lock"):
        start(thing={"deep": [0, Holder()]})
    with nothing_written(nbflow), Path(__file__).open() as file, refused(PayloadError, "`input['other']`", "file"):
        start(other=file)
    loop: list[Any] = []
    loop.append(loop)
    with nothing_written(nbflow), refused(PayloadError, "`input['thing'][0]` contains itself"):
        start(thing=loop)


def test_what_was_packed_before_the_bad_part_leaves_nothing_behind(nbflow: Nbflow) -> None:
    """Law: a frame that could travel, beside a lock that cannot, is not written either."""
    frame = pd.DataFrame({"x": np.arange(10_000)})
    with nothing_written(nbflow), refused(PayloadError, "`input['other']`"):
        takes_anything().options(on=nbflow).start(thing=frame, other=threading.Lock())


class Holder:
    def __init__(self) -> None:
        self.lock = threading.Lock()


# -- input that does not fit ----------------------------------------------------------------------------------------------


def two_entries() -> Flow:
    flow = Flow("two-entries")

    @flow.entry
    def read(folder: Path, since: date, limit: int = 10) -> None: ...

    @flow.entry
    def count(limit: int = 10) -> None: ...

    return flow


def test_input_that_does_not_fit_names_field_value_and_problem(nbflow: Nbflow) -> None:
    start = two_entries().options(on=nbflow).start
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"folder": "d", "since": "2026-02-31"}, ("'since'", "'2026-02-31'", "entry 'read'", "day value")),
        ({"folder": "d", "since": "2026-02-01", "limit": "many"}, ("'limit'", "'many'", "valid integer")),
        ({"since": "2026-02-01"}, ("needs the input 'folder'", "entry 'read'", "folder=...")),
        ({}, ("'folder'", "and 1 more")),
        ({"folder": "d", "since": "2026-02-01", "limt": 3}, ("no input 'limt'", "Did you mean 'limit'?")),
    ]
    for values, words in cases:
        with nothing_written(nbflow), refused(InputInvalid, "two-entries", *words):
            start(**values)


def test_input_by_position_is_for_flows_of_one_parameter(nbflow: Nbflow) -> None:
    with nothing_written(nbflow), refused(InputInvalid, "by name", "start(folder=..., since=..., limit=...)"):
        two_entries().options(on=nbflow).start("data")


def test_a_flow_without_input_says_so(nbflow: Nbflow) -> None:
    flow = Flow("no-input")

    @flow.entry
    def go() -> None: ...

    with nothing_written(nbflow), refused(InputInvalid, "'no-input' has no input 'x'", "It takes no input."):
        flow.options(on=nbflow).start(x=1)


def test_a_key_with_another_input_names_the_run_that_has_it(nbflow: Nbflow) -> None:
    started = takes_anything().options(on=nbflow, key='of "today"\n✓').start(thing=1)
    assert takes_anything().options(on=nbflow, key='of "today"\n✓').start(thing=1) == started
    before = set(nbflow.store.client.keys())
    with refused(KeyTaken, "✓", started.id[:8], "another input"):
        takes_anything().options(on=nbflow, key='of "today"\n✓').start(thing=2)
    assert set(nbflow.store.client.keys()) == before


# -- the shape of a flow --------------------------------------------------------------------------------------------------


def test_a_circle_without_each_is_refused_where_it_closes() -> None:
    flow = Flow("circle")

    @flow.step("b", emits="a")
    def one(b: int) -> int: ...

    with refused(FlowShapeError, "two → one → two", "passes no each", "each(...)"):

        @flow.step("a", emits="b")
        def two(a: int) -> int: ...

    assert [declared.name for declared in flow.steps()] == ["one"]


@pytest.mark.parametrize("form", [collect, completed])
def test_a_circle_that_waits_for_its_own_end_is_refused(form: Any) -> None:
    flow = Flow("waits-for-itself")

    @flow.step(each("a"), emits="b")
    def one(a: int) -> int: ...

    with refused(FlowShapeError, f"'two' subscribes with {form.__name__} to 'one'", "wait for its own end"):

        @flow.step(form(one), emits="a")
        def two(ones: Any) -> int: ...

    assert [declared.name for declared in flow.steps()] == ["one"]


def test_two_steps_of_one_name_in_two_cells_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Flow("two-cells")
    monkeypatch.setattr(registry, "cell_locator", lambda: CellId("first", "1"))

    @flow.entry
    def load() -> int:
        return 1

    monkeypatch.setattr(registry, "cell_locator", lambda: CellId("second", "1"))
    with refused(StepNameTaken, "'load'", "'two-cells'", "another cell", "flow.forget('load')"):

        @flow.entry(name="load")
        def again() -> int:
            return 2

    assert [declared.function() for declared in flow.steps()] == [1]


def test_a_flow_with_errors_does_not_start_and_lists_them(nbflow: Nbflow) -> None:
    flow = Flow("unfinished")
    with nothing_written(nbflow), refused(DefinitionError, "'unfinished' cannot start", "no steps yet", "@flow.entry"):
        flow.options(on=nbflow).start()

    @flow.step("order.recieved")
    def price(order: dict[str, Any]) -> None: ...

    with nothing_written(nbflow), pytest.raises(DefinitionError) as caught:
        flow.options(on=nbflow).start()
    lines = str(caught.value).splitlines()
    assert lines[0] == "Flow 'unfinished' cannot start, for 2 reasons:"
    assert "no entry" in lines[1]
    assert "'order.recieved'" in lines[2]
    assert len(lines) == 4


def test_an_unknown_flow_is_named_with_its_nearest() -> None:
    Flow("invoices")
    with refused(UnknownFlow, "'invoice'", "Did you mean 'invoices'?"):
        registry.get("invoice")


# -- what code carries ----------------------------------------------------------------------------------------------------

CELL = """
import threading
from nbflow import Flow

notebook_guard = threading.Lock()
notebook_flow = Flow("carries-a-global")

@notebook_flow.entry
def guarded():
    with notebook_guard:
        pass
"""


def test_a_lock_in_a_global_of_the_notebook_is_named_with_its_step(nbflow: Nbflow) -> None:
    names = vars(sys.modules["__main__"])
    before = dict(names)
    try:
        exec(CELL, names)
        with nothing_written(nbflow), refused(CaptureError, "'guarded'", "`notebook_guard`", "lock", "inside the step"):
            names["notebook_flow"].options(on=nbflow).start()
    finally:
        for name in names.keys() - before.keys():
            del names[name]


def test_a_lock_or_an_open_file_in_a_closure_is_named_with_its_step(nbflow: Nbflow, tmp_path: Path) -> None:
    flow, lock = Flow("carries"), threading.Lock()

    @flow.entry
    def guarded() -> None:
        with lock:
            pass

    with nothing_written(nbflow), refused(CaptureError, "'guarded'", "`lock`", "cannot travel"):
        flow.options(on=nbflow).start()
    flow.forget("guarded")
    with (tmp_path / "open.txt").open("w") as handle:

        def write_to() -> None:
            handle.write("x")

        @flow.entry
        def writes() -> None:
            write_to()

        with nothing_written(nbflow), refused(CaptureError, "'writes'", "`handle`", "`write_to`", "carry its path"):
            flow.options(on=nbflow).start()


def test_much_data_in_the_code_is_a_warning_and_too_much_an_error(nbflow: Nbflow) -> None:
    flow = Flow("heavy")
    table = np.zeros(2 * 1024 * 1024, dtype="u1")

    @flow.entry
    def look() -> int:
        return len(table)

    with pytest.warns(UserWarning, match=r"Step 'look' carries `table` \(2\.0 MiB\)"):
        flow.options(on=nbflow).start()
    table = np.zeros(33 * 1024 * 1024, dtype="u1")
    with nothing_written_but_one_run(nbflow), refused(CaptureError, "'look'", "`table` (33.0 MiB)", "32.0 MiB"):
        flow.options(on=nbflow).start()


def nothing_written_but_one_run(nbflow: Nbflow) -> Any:
    """As `nothing_written`, where the run of a flow that waits is there already."""
    assert len(nbflow.runs()) == 1
    nbflow.runs()["id"].map(lambda run: nbflow.run(run).cancel())
    return nothing_written(nbflow)


# -- objects of another kind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [5, "", [], object(), float("nan"), b"x"], ids=lambda value: type(value).__name__)
def test_what_is_no_flow_and_no_run_is_told_so(nbflow: Nbflow, wrong: Any) -> None:
    flow = takes_anything()
    asked: list[tuple[str, Any]] = [
        ("no flow", lambda: nbflow.start(wrong, {})),
        ("no flow", lambda: nbflow.start_many(wrong, [{}])),
        ("no flow", lambda: nbflow.publish(wrong)),
        ("no flow", lambda: nbflow.foresee("r", wrong, changed=False)),
        ("no options", lambda: nbflow.start(flow, {}, wrong)),
        ("no options", lambda: nbflow.start_many(flow, [{}], wrong)),
        ("no wait", lambda: nbflow.resolve("r", wrong, 1)),
    ]
    if wrong not in ("", []):
        asked.append(("list of inputs", lambda: nbflow.start_many(flow, wrong)))
    if not isinstance(wrong, str):
        asked += [
            ("No run has the id", lambda: nbflow.runs(parent=wrong)),
            ("name of a flow", lambda: nbflow.runs(flow=wrong)),
            ("key of a firing", lambda: nbflow.subscribed.trip("t", key=wrong)),
        ]
    for words, ask in asked:
        with nothing_written(nbflow), refused(CommandRefused, words):
            ask()


# -- names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", 'quo"te', "new\nline", "", "é", "a" * 101, "semi;colon", "a:b", None])
def test_a_queue_of_a_bad_name_is_refused_at_definition(nbflow: Nbflow, name: Any) -> None:
    flow = Flow("queues")
    with refused(DefinitionError, f"queue cannot be called {name!r}"):
        Flow("other", queue=name)
    if name:
        with refused(DefinitionError, f"queue cannot be called {name!r}"):
            flow.options(queue=name)
        with refused(DefinitionError, f"queue cannot be called {name!r}"):
            Options(queue=name)
    if name is not None:
        with refused(DefinitionError, f"queue cannot be called {name!r}"):

            @flow.entry(queue=name)
            def go() -> None: ...

    assert not flow.steps()


@pytest.mark.parametrize("name", ["with space", 'quo"te', "new\nline", "", "a" * 101, "a:b", "é"])
def test_a_flow_of_a_bad_name_is_refused(name: str) -> None:
    with refused(DefinitionError, f"flow cannot be called {name!r}"):
        Flow(name)
    with refused(DefinitionError, f"flow cannot be called {name!r}"):

        @step(flows=name, role="entry")
        def go() -> None: ...

    assert name not in [record.name for record in registry.flows()]


def test_tags_and_keys_may_be_any_text(nbflow: Nbflow) -> None:
    odd = ['quo"te', "new\nline", "ünï✓", "back\\slash", "', --", "a b"]
    for text in odd:
        run = takes_anything().options(on=nbflow, key=text, tags=[text, *odd]).start(thing=text)
        assert nbflow.run(run.id) == run
        assert next(iter(nbflow.runs(tag=text)["id"])) == run.id
        assert nbflow.index.run(run.id).key == text
        assert run.input["thing"] == text
        run.cancel(text)
        assert run.view.end["reason"] == text


def test_a_key_has_a_length() -> None:
    with refused(DefinitionError, "1 to 200 characters, not 201"):
        takes_anything().options(key="k" * 201)
