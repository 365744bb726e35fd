"""The results of a run, put together from its view: of a task, of a step, of the run itself.

Payloads are decoded when they are looked at, one by one, so that a map of ten thousand costs nothing until then.
What is missing is said as the state it is in: not ended, failed, canceled, skipped, unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast, overload

from nbflow.define.asked import shown
from nbflow.errors import CommandRefused, NotEnded, RunEnded, StepFailure, nearest
from nbflow.model.ids import Index, index_for_people, index_from_people, index_sort_key
from nbflow.model.view import TaskView, View
from nbflow.picture.flow_picture import FlowPicture
from nbflow.watch.lines import user_lines

__all__ = ["Results", "failure_of_run", "result_of_run", "result_of_step"]

Decode = Callable[[Any], Any]


class Results(Sequence[Any]):
    """The results of a mapped step, in the order of the indexes.

    `results[7]` is the one of index 7, `results[3, 1]` that below the second map, `results["b.csv"]` by the element's
    key; slices, iteration and `len` go by order.
    """

    def __init__(self, view: View, step: str, decode: Decode) -> None:
        self._view = view
        self._decode = decode
        self._step = step
        mine = [task for task in view.tasks.values() if task.step == step]
        self._tasks = sorted(mine, key=lambda task: index_sort_key(task.index))

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, index: int | tuple[int, ...] | str) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | tuple[int, ...] | str | slice) -> Any:
        if isinstance(index, slice):
            return [self._result(task) for task in self._tasks[index]]
        if index == -1 and self._tasks:
            return self._result(self._tasks[-1])
        return self._result(self._find(index))

    def __iter__(self) -> Iterator[Any]:
        return map(self._result, self._tasks)

    def keys(self) -> list[str]:
        """The names of the elements, where the step has a `key=`."""
        return [task.key for task in self._tasks if task.key]

    def items(self) -> Iterator[tuple[str | int | Index | None, Any]]:
        """Key (or index) and result of each."""
        return ((task.key or index_for_people(task.index), self._result(task)) for task in self._tasks)

    def __repr__(self) -> str:
        done = sum(task.status == "completed" for task in self._tasks)
        return f"<results of {self._step!r}: {done} of {len(self._tasks)}>"

    def _ipython_key_completions_(self) -> list[str]:
        return self.keys()

    def _result(self, task: TaskView) -> Any:
        return _result_of_task(self._view, task, self._decode)

    def _find(self, index: int | tuple[int, ...] | str) -> TaskView:
        if not isinstance(index, int | tuple | str):  # pyright: ignore[reportUnnecessaryIsInstance]
            hint = f"Give a number, or a key: run[{self._step!r}][0]."
            raise CommandRefused(f"No element of {self._step!r} has the index {shown(index)}.", hint=hint)
        wanted = index if isinstance(index, str) else index_from_people(index)
        for task in self._tasks:
            if wanted == (task.key if isinstance(index, str) else task.index):
                return task
        if isinstance(index, str):
            raise CommandRefused(
                f"No element of {self._step!r} has the key {index!r}.", hint=nearest(index, self.keys())
            )
        # IndexError is what ends a loop in Python, and what a person expects of a number too high
        raise IndexError(f"{self._step!r} has no task of index {index!r}; it has {len(self)} tasks so far.")


def result_of_step(view: View, step: str, decode: Decode) -> Any:
    """The result of a step, or `Results` if it is mapped."""
    task = view.tasks.get(step)
    if task is not None:
        return _result_of_task(view, task, decode)
    if _is_mapped(view, step):
        return Results(view, step, decode)
    raise _no_task(view, step)


def result_of_run(view: View, decode: Decode) -> Any:
    """The result of an ended run by the rule of the leaves: one that completed, its result; several, a dict; none, `None`."""
    if view.status == "failed":
        raise failure_of_run(view)
    if view.status == "canceled":
        reason = view.end.get("reason")
        why = f" ({reason})" if reason else ""
        raise RunEnded(
            f"The run of {view.flow_name!r} was canceled{why} and has no result.",
            hint="Start it again with flow.start(...).",
        )
    leaves = cast("list[str]", view.end.get("leaves") or [])
    results = {leaf: _whole(view, leaf, decode) for leaf in leaves}
    if len(results) == 1:
        return next(iter(results.values()))
    return results or None


def failure_of_run(view: View) -> StepFailure:
    """Why a run failed: the first failure that nobody handled, with its step and its line."""
    step = str(view.end.get("failedStep") or "")
    failed = [task for task in view.tasks.values() if task.status == "failed" and step in ("", task.step)]
    if failed:
        first = min(failed, key=lambda task: (task.last and task.last.ended_ms) or 0)
        return _failure_of_task(view, first)
    error = str(view.end.get("error") or view.end.get("reason") or "unknown")
    return StepFailure(
        f"The run of {view.flow_name!r} failed: {error}",
        hint="Look at run.events; start it again with flow.start(...).",
        run_id=view.run_id,
        task=step,
        error=error,
    )


def _whole(view: View, leaf: str, decode: Decode) -> Any:
    """A leaf's result as a value: a list, and not what is looked up, where it is mapped (also with no element at all)."""
    if leaf in view.tasks:
        return _result_of_task(view, view.tasks[leaf], decode)
    return list(Results(view, leaf, decode))


def _result_of_task(view: View, task: TaskView, decode: Decode) -> Any:
    if task.status == "completed":
        return decode(task.result)
    if task.status == "failed":
        raise _failure_of_task(view, task)
    if task.status == "canceled":
        raise RunEnded(
            f"{task.task!r} was canceled and has no result.", hint="Start the run again with flow.start(...)."
        )
    raise NotEnded(f"{task.task!r} has not ended: it is {task.status}.", hint="Wait for it with run.wait().")


def _failure_of_task(view: View, task: TaskView) -> StepFailure:
    last = task.last
    error, traceback = (last.error, last.traceback) if last else ("", "")
    line = _line_of_user(traceback)
    return StepFailure(
        f"Step {task.step!r} failed{_which(task)}{f' at {line}' if line else ''}: {error or 'no error was recorded'}",
        hint="Correct the step, run its cell, and start again with flow.start(...); run.logs and run.attempts tell more.",
        run_id=view.run_id,
        task=task.task,
        error=error,
        traceback=traceback,
    )


def _which(task: TaskView) -> str:
    if not task.index:
        return ""
    return f" for {task.key!r}" if task.key else f" at index {index_for_people(task.index)!r}"


def _line_of_user(traceback: str) -> str:
    """`line 3 of its cell`, `line 12 of etl.py`."""
    return "".join(
        f"line {line.line} of {'its cell' if line.is_in_cell else line.file_name}"
        for line in user_lines(traceback)[-1:]
    )


def _no_task(view: View, step: str) -> CommandRefused:
    known = {*view.steps, *_graph_steps(view)}
    if (skipped := view.steps.get(step)) and skipped.skipped:
        return CommandRefused(
            f"Step {step!r} was skipped ({skipped.skipped}) and has no result.",
            hint="run.tasks and run.events tell what came before it.",
        )
    if step not in known and known:
        return CommandRefused(f"The run of {view.flow_name!r} has no step {step!r}.", hint=nearest(step, known))
    if view.ended:
        return RunEnded(f"Step {step!r} did not run: the run is {view.status}.", hint="run.events tells what happened.")
    return NotEnded(f"Step {step!r} has not run yet.", hint="Wait for it with run.wait().")


def _is_mapped(view: View, step: str) -> bool:
    if any(task.step == step for task in view.tasks.values()):
        return True
    skipped = step in view.steps and view.steps[step].skipped
    return not skipped and _graph_steps(view).get(step, False)


def _graph_steps(view: View) -> dict[str, bool]:
    """The steps as `flow.start` drew them, and whether each is mapped; nothing if the drawing is not at hand."""
    return {node.name: node.mapped for node in FlowPicture.from_json(view.start.get("graph")).steps}
