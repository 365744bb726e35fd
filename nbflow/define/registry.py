"""The flows of this process and their steps, following the cells of the notebook.

A step belongs to the cell that made it: running the cell again replaces its steps, and one that is gone from its text
is gone from the flow. Which cell is running is told by `cell_locator`, which the notebook sets; without it (a script,
plain IPython) a step of the same name replaces the earlier one. Each registration is complete by itself, so a cell that
fails half-way leaves a flow in which every step is whole. This module knows no notebook and looks at no function.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nbflow.define.forms import resolve
from nbflow.define.graph import Wiring
from nbflow.errors import DefinitionError, StepNameTaken, UnknownFlow, nearest
from nbflow.model.definition import MAX_TASKS, STALL_AFTER_S, FlowSpec, StepSpec
from nbflow.model.policy import Concurrency

if TYPE_CHECKING:
    from nbflow.define.declaration import StepDeclaration
    from nbflow.define.flow import FlowDefinition

__all__ = [
    "CellId",
    "FlowRecord",
    "FlowSettings",
    "cell_locator",
    "define",
    "defined",
    "end_cell",
    "flows",
    "forget",
    "get",
    "here",
    "register",
    "reset",
    "use_shelf",
]


class CellId(NamedTuple):
    """A cell of a notebook, and which execution of it."""

    cell: str
    execution: str = ""


def _nowhere() -> CellId | None:
    return None


cell_locator: Callable[[], CellId | None] = _nowhere
"""Says which cell is running. The notebook assigns it (`registry.cell_locator = ...`)."""

_lock = threading.RLock()
_own: dict[str, FlowRecord] = {}
_shelf: ContextVar[dict[str, FlowRecord] | None] = ContextVar("nbflow_flows", default=None)
_newest_execution: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """What the author says of a flow as a whole."""

    result: str | None = None
    queue: str = "default"
    on_failure: str = "continue"
    deadline_s: float | None = None
    max_tasks: int = MAX_TASKS
    retention_s: float | None = None
    concurrency: Concurrency | None = None
    stall_after_s: float = STALL_AFTER_S


class FlowRecord:
    """What is known of one flow. `handle` is the newest object that the author holds; all handles share the record."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.settings = FlowSettings()
        self.handle: FlowDefinition | None = None
        self.revision = 0
        self._places: dict[str, StepDeclaration | None] = {}  # None keeps the place of a step whose cell runs again
        self._wiring = Wiring()
        self._spec: tuple[int, FlowSpec, dict[str, StepSpec]] | None = None

    def declarations(self) -> list[StepDeclaration]:
        """The steps in the order of their definition; one that was defined anew keeps its place."""
        with _lock:
            return [declaration for declaration in self._places.values() if declaration is not None]

    def declaration(self, name: str) -> StepDeclaration | None:
        return self._places.get(name)

    def options(self, settings: FlowSettings) -> None:
        with _lock:
            self.settings = settings
            self.revision += 1

    def spec(self) -> FlowSpec:
        """The flow as data. The same object until something changes."""
        return self._current()[1]

    def step_spec(self, name: str) -> StepSpec:
        steps = self._current()[2]
        if name not in steps:
            raise DefinitionError(f"Flow {self.name!r} has no step {name!r}.", hint=nearest(name, steps))
        return steps[name]

    def put(self, new: StepDeclaration) -> None:
        """Add or replace a step, or change nothing and say why."""
        old = self._places.get(new.name)
        if old is not None:
            self._refuse_other_cell(old, new)
            self._wiring.remove(old.name)
        self._wire(new)
        try:
            self._wiring.refuse_cycle_through(new.name)
        except DefinitionError:
            self._wiring.remove(new.name)
            if old is not None:
                self._wire(old)
            raise
        self._places[new.name] = new
        self.revision += 1

    def drop(self, name: str, *, keep_place: bool = False) -> None:
        if self._places.get(name) is not None:
            self._wiring.remove(name)
        if keep_place:
            self._places[name] = None
        else:
            self._places.pop(name, None)
        self.revision += 1

    def drop_stale(self, cell: CellId) -> None:
        """Take out what an earlier execution of the cell defined."""
        for step in self.declarations():
            if step.cell is not None and step.cell.cell == cell.cell and step.cell.execution != cell.execution:
                self.drop(step.name, keep_place=True)

    def _wire(self, step: StepDeclaration) -> None:
        inputs = {source.key: form.form for form in step.subscriptions for source in form.sources}
        self._wiring.add(step.name, inputs, step.topics)

    def _current(self) -> tuple[int, FlowSpec, dict[str, StepSpec]]:
        with _lock:
            if self._spec is None or self._spec[0] != self.revision:
                declarations = self.declarations()
                mapped = {step.name for step in declarations if step.is_mapped}
                steps = {step.name: _step_spec(step, mapped, self.settings.queue) for step in declarations}
                self._spec = self.revision, self._flow_spec(tuple(steps.values())), steps
            return self._spec

    def _flow_spec(self, steps: tuple[StepSpec, ...]) -> FlowSpec:
        chosen = self.settings
        return FlowSpec(
            self.name,
            steps,
            chosen.result,
            on_failure=chosen.on_failure,
            deadline_s=chosen.deadline_s,
            retention_s=chosen.retention_s,
            max_tasks=chosen.max_tasks,
            concurrency=chosen.concurrency,
            stall_after_s=chosen.stall_after_s,
        )

    def _refuse_other_cell(self, old: StepDeclaration, new: StepDeclaration) -> None:
        if old.cell is None or new.cell is None or old.cell.cell == new.cell.cell:
            return
        message = (
            f"Step {new.name!r} of flow {self.name!r} is defined in another cell already (or was, in one that is gone)."
        )
        hint = f"Rename one of the two, or take the other out with flow.forget({new.name!r}) and run this cell again."
        raise StepNameTaken(message, hint=hint)


def _step_spec(step: StepDeclaration, mapped: set[str], queue: str) -> StepSpec:
    return StepSpec(
        step.name,
        resolve(step.subscriptions, mapped),
        step.emits,
        queue=step.queue or queue,
        has_key=step.key is not None,
        doc=step.doc,
        retry=step.retry,
        timeout_s=step.timeout_s,
        priority=step.priority,
        concurrency=step.concurrency,
        rate=step.rate,
        hold=step.hold,
        hold_emits=step.hold_emits,
        isolation=step.isolation,
        cache_s=step.cache_s,
    )


def here() -> CellId | None:
    """The cell that is running, if there is one."""
    return cell_locator()


def define(name: str) -> FlowRecord:
    """The record of a flow, made if there is none. The steps it has stay."""
    with _lock:
        return _here().setdefault(name, FlowRecord(name))


def register(declarations: Sequence[StepDeclaration]) -> None:
    """Add one function's declarations, each to its flow: all of them or none."""
    with _lock:
        cell = declarations[0].cell
        if cell is not None:
            end_cell(cell)
        done: list[tuple[FlowRecord, StepDeclaration, StepDeclaration | None]] = []
        try:
            for declaration in declarations:
                record = define(declaration.flow)
                before = record.declaration(declaration.name)
                record.put(declaration)
                done.append((record, declaration, before))
        except DefinitionError:
            _undo(done)
            raise


def _undo(done: Sequence[tuple[FlowRecord, StepDeclaration, StepDeclaration | None]]) -> None:
    for record, new, before in reversed(done):
        record.drop(new.name, keep_place=True)
        if before is not None:
            record.put(before)


def end_cell(cell: CellId) -> None:
    """Drop what earlier executions of the cell defined. The notebook calls it when a cell has run to its end, for a
    cell whose text defines no step any more; a registration does so itself."""
    with _lock:
        if _newest_execution.get(cell.cell) == cell.execution:
            return
        _newest_execution[cell.cell] = cell.execution
        for record in _here().values():
            record.drop_stale(cell)


def use_shelf(flows: dict[str, FlowRecord] | None) -> None:
    """Have what is defined here from now on go to another place (the code of a bundle that is opened here may declare its
    flow again), until None brings back the process's own. Other threads go on with theirs."""
    _shelf.set(flows)


def _here() -> dict[str, FlowRecord]:
    flows = _shelf.get()
    return _own if flows is None else flows


def forget(flow: str, step: str) -> None:
    """Take a step out of a flow, whichever cell defined it."""
    with _lock:
        record = get(flow)
        if not isinstance(step, str) or record.declaration(step) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            known = [declaration.name for declaration in record.declarations()]
            raise DefinitionError(f"Flow {flow!r} has no step {step!r}.", hint=nearest(step, known))
        record.drop(step)


def flows() -> list[FlowRecord]:
    """All flows in the order of their definition."""
    with _lock:
        return list(_here().values())


def get(name: str) -> FlowRecord:
    """The record of a flow that is defined."""
    with _lock:
        flows = _here()
        if name not in flows:
            hint = nearest(name, flows) or "Run the cell that defines it."
            raise UnknownFlow(f"No flow {name!r} is defined in this process.", hint=hint)
        return flows[name]


def defined(name: str) -> FlowDefinition | None:
    """The flow of that name as it is defined now, if it has any steps."""
    with _lock:
        record = _here().get(name)
        return record.handle if record is not None and record.declarations() else None


def reset() -> None:
    """Forget everything, the cell locator too. For tests."""
    global cell_locator
    with _lock:
        _own.clear()
        _shelf.set(None)
        _newest_execution.clear()
        cell_locator = _nowhere
