"""The registry follows the cells: a cell that runs again replaces what it defined."""

# ruff: noqa: ARG005 - what a function does with its parameters is not the question here, but how they are called

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition, step
from nbflow.errors import FlowShapeError, StepNameTaken, UnknownFlow


class Notebook:
    """Tells the registry which cell runs, as the extension does."""

    def __init__(self) -> None:
        self.now: registry.CellId | None = None
        self._count = 0
        registry.cell_locator = lambda: self.now

    def run(self, cell: str, code: Callable[[], object]) -> None:
        self._count += 1
        self.now = registry.CellId(cell, str(self._count))
        try:
            code()
            registry.end_cell(self.now)
        finally:
            self.now = None


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    registry.reset()
    yield Notebook()
    registry.reset()


def defines(*names: str, flow: str = "f", after: str = "") -> Callable[[], None]:
    """A cell that defines steps of these names."""

    def code() -> None:
        handle = FlowDefinition(flow)
        for name in names:
            handle.step(after, name=name)(lambda x: x) if after else handle.entry(name=name)(lambda: 1)

    return code


def names(flow: str = "f") -> list[str]:
    return [declaration.name for declaration in registry.get(flow).declarations()]


def test_a_cell_that_runs_again_replaces_its_steps(notebook: Notebook) -> None:
    notebook.run("one", defines("a"))
    before = registry.get("f").declaration("a")
    notebook.run("one", defines("a"))
    assert names() == ["a"]
    assert registry.get("f").declaration("a") is not before


def test_a_step_that_is_gone_from_the_text_is_gone_from_the_flow(notebook: Notebook) -> None:
    notebook.run("one", defines("a", "b"))
    notebook.run("two", defines("c"))
    notebook.run("one", defines("b"))
    assert names() == ["b", "c"]


def test_a_renamed_step_leaves_nothing_behind(notebook: Notebook) -> None:
    notebook.run("one", defines("parse"))
    notebook.run("one", defines("read"))
    assert names() == ["read"]


def test_steps_keep_their_place_when_their_cell_runs_again(notebook: Notebook) -> None:
    notebook.run("one", defines("a", "b"))
    notebook.run("two", defines("c"))
    notebook.run("one", defines("b", "a"))
    assert names() == ["a", "b", "c"]


def test_a_step_moves_with_its_cell_to_another_flow(notebook: Notebook) -> None:
    notebook.run("one", defines("a", flow="f"))
    notebook.run("one", defines("a", flow="g"))
    assert names("f") == []
    assert names("g") == ["a"]


def test_a_cell_whose_text_defines_no_step_any_more_has_none(notebook: Notebook) -> None:
    notebook.run("one", defines("a"))
    notebook.run("one", lambda: None)
    assert names() == []


def test_running_the_flow_again_keeps_the_steps_of_other_cells(notebook: Notebook) -> None:
    notebook.run("flow", lambda: FlowDefinition("f"))
    notebook.run("one", defines("a"))
    notebook.run("flow", lambda: FlowDefinition("f", result="a"))
    assert names() == ["a"]
    assert registry.get("f").spec().result == "a"


def test_a_name_of_another_cell_is_taken(notebook: Notebook) -> None:
    notebook.run("one", defines("clean"))
    before = registry.get("f").declaration("clean")
    with pytest.raises(StepNameTaken, match="'clean' of flow 'f' is defined in another cell") as caught:
        notebook.run("two", defines("clean"))
    assert "flow.forget('clean')" in caught.value.hint
    assert registry.get("f").declaration("clean") is before
    FlowDefinition("f").forget("clean")
    notebook.run("two", defines("clean"))
    assert names() == ["clean"]


def test_a_name_is_free_again_when_its_cell_gave_it_up(notebook: Notebook) -> None:
    notebook.run("one", defines("clean"))
    notebook.run("one", defines("tidy"))
    notebook.run("two", defines("clean"))
    assert names() == ["clean", "tidy"]


def test_without_cells_the_same_name_replaces(notebook: Notebook) -> None:
    defines("a")()
    notebook.run("one", defines("a"))
    assert registry.get("f").declaration("a").cell is not None  # type: ignore[union-attr]
    defines("a")()
    assert names() == ["a"]
    assert registry.get("f").declaration("a").cell is None  # type: ignore[union-attr]


def test_a_cell_that_fails_half_way_leaves_whole_steps(notebook: Notebook) -> None:
    """What came before the error is defined anew; what would have come after it is gone until the cell is mended."""

    def fails() -> None:
        defines("a")()
        raise RuntimeError

    notebook.run("one", defines("a", "b"))
    with pytest.raises(RuntimeError):
        notebook.run("one", fails)
    assert names() == ["a"]
    notebook.run("one", defines("a", "b"))
    assert names() == ["a", "b"]


def test_a_cell_that_fails_before_its_first_step_changes_nothing(notebook: Notebook) -> None:
    def fails() -> None:
        raise RuntimeError

    notebook.run("one", defines("a"))
    with pytest.raises(RuntimeError):
        notebook.run("one", fails)
    assert names() == ["a"]


def test_a_function_of_several_flows_is_registered_in_all_of_them_or_in_none(notebook: Notebook) -> None:
    loop = FlowDefinition("loop")
    loop.step("again", name="first", emits=["next"])(lambda again: None)
    with pytest.raises(FlowShapeError):
        step(flows=["other", "loop"], subscribes="next", emits=["again"], name="second")(lambda again: None)
    assert names("other") == []
    assert names("loop") == ["first"]


def test_flows_are_listed_in_order_and_an_unknown_one_is_told_the_nearest(notebook: Notebook) -> None:
    FlowDefinition("etl")
    FlowDefinition("orders")
    assert [record.name for record in registry.flows()] == ["etl", "orders"]
    with pytest.raises(UnknownFlow, match="Did you mean 'orders'"):
        registry.get("order")


def test_threads_that_define_at_once_lose_nothing(notebook: Notebook) -> None:
    def define(worker: int) -> None:
        defines(*(f"s{worker}_{number}" for number in range(20)))()
        registry.get("f").spec()

    threads = [threading.Thread(target=define, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.get("f").spec().steps) == 160
