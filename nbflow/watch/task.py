"""The handle of one task of a run: what is known of it, and what a person does to it by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nbflow.define.asked import asked_emits, shown
from nbflow.errors import CommandRefused, RunEnded, nearest
from nbflow.model.ids import Index, index_for_people, index_from_people, split_task
from nbflow.model.view import UNFINISHED, TaskView, View
from nbflow.watch.questions import tasks_of

__all__ = ["Acts", "DebugCall", "TaskAttempt", "TaskHandle", "find_task"]


@dataclass(frozen=True, slots=True)
class DebugCall:
    """A step's function and what a task of it received, in this process. `debug()` calls it: set a breakpoint first, or
    use `%debug` after it failed. Emissions, logs and changes of state go nowhere; what it does to the world, it does."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    within: Callable[[], AbstractContextManager[None]]
    """What its code finds: the project's modules as they were when the run was started, and its context."""

    def __call__(self) -> Any:
        """Its result; of an `async def` step something to await."""
        with self.within():
            value = self.function(*self.args, **self.kwargs)
            if inspect.isgenerator(value):
                return list(value)
        return self._awaited(value) if inspect.iscoroutine(value) else value

    async def _awaited(self, value: Coroutine[Any, Any, Any]) -> Any:
        with self.within():
            return await value


class TaskAttempt(NamedTuple):
    """One attempt of a task of a run."""

    run: str
    task: str
    attempt: int


class Acts(Protocol):
    """What can be done to a task; an attempt that is not under way any more gives False."""

    def cancel(self, at: TaskAttempt, reason: str, /) -> bool: ...
    def retry(self, at: TaskAttempt, reason: str, /) -> bool: ...
    def complete(self, at: TaskAttempt, value: Any, emits: Mapping[str, Any], reason: str, /) -> bool: ...
    def debug(self, at: TaskAttempt, /) -> DebugCall: ...


class TaskHandle:
    """One task: `run.task("parse[7]")`."""

    def __init__(self, run: str, task: str, view: Callable[[], View], hands: Callable[[], Acts]) -> None:
        self._run, self._task, self._look, self._hands = run, task, view, hands

    @property
    def view(self) -> TaskView:
        """What the events tell of it up to now."""
        return self._look().tasks[self._task]

    @property
    def name(self) -> str:
        """As events and tables name it: `train`, `parse[7]`."""
        return self._task

    @property
    def status(self) -> str:
        """`queued`, `running`, `retrying`, `awaiting`, `completed`, `failed`, `canceled`."""
        return self.view.status

    @property
    def key(self) -> str | None:
        """The name of its element, where the step has a `key=`."""
        return self.view.key or None

    @property
    def index(self) -> int | Index | None:
        return index_for_people(self.view.index)

    @property
    def attempt(self) -> int:
        """The number of its latest attempt."""
        last = self.view.last
        return last.attempt if last else 1

    @property
    def _at(self) -> list[TaskAttempt]:
        """What may be under way: while it waits for another try that is the next attempt (the same after `Retry.later`)."""
        numbers = [self.attempt + 1, self.attempt] if self.status == "retrying" else [self.attempt]
        return [TaskAttempt(self._run, self._task, number) for number in numbers]

    def cancel(self, reason: str = "") -> TaskHandle:
        """End it without a result; what runs is interrupted, and its wait is over if it has one. It does not make the run
        fail, and what needs its result (a `collect` of it, say) is skipped. CommandRefused if it has ended."""
        return self._act("canceled", lambda at: self._hands().cancel(at, reason))

    def retry(self, reason: str = "") -> TaskHandle:
        """Try it again now: a back-off is not waited for, and an attempt that runs (and hangs, perhaps) is given up for
        the next one. What was held after its attempt is given up, too. CommandRefused if it has ended (`run.resume()` is
        for that), waits for a worker already, or waits for what its `hold=` says and was not tried yet."""
        return self._act("tried again", lambda at: self._hands().retry(at, reason))

    def complete(self, value: Any = None, *, emits: Mapping[str, Any] | None = None, reason: str = "") -> TaskHandle:
        """Give its result in its place: what waits for it goes on with `value`, and an attempt that runs is given up. For a
        step with several topics `emits` says what is emitted on which. CommandRefused if it has ended, or if the value does
        not fit what the step is annotated to return; PayloadError if it cannot travel. Nothing was changed then."""
        told = asked_emits(emits)
        return self._act("completed", lambda at: self._hands().complete(at, value, told, reason))

    def debug(self) -> DebugCall:
        """What it received and its code, in this process: `run.task("train").debug()()` runs it here, for a debugger.

        TrustError if the code was not signed with this project's secret, or packed by another Python."""
        return self._hands().debug(TaskAttempt(self._run, self._task, self.attempt))

    def __repr__(self) -> str:
        return f"<task {self._task!r}: {self.status}>"

    def _act(self, done: str, act: Callable[[TaskAttempt], bool]) -> TaskHandle:
        """Say it for the attempt there is; another one may have begun meanwhile."""
        for _ in range(5):
            view = self._look()
            if view.ended:
                raise RunEnded(
                    f"The run {self._run[:8]} is {view.status} already, and its tasks with it.",
                    hint="Look at run.tasks; run.resume() executes what is missing.",
                )
            if self.status not in UNFINISHED:
                raise CommandRefused(
                    f"The task {self._task!r} is {self.status} already and cannot be {done}.",
                    hint="Only what has not ended can be changed; run.resume() executes again what failed.",
                )
            if any(act(at) for at in self._at):
                return self
        raise CommandRefused(f"The task {self._task!r} changes all the time.", hint="Try again in a moment.")


def find_task(
    view: View, name: str, index: int | tuple[int, ...] | str | None, steps: Callable[[], Sequence[str]]
) -> str:
    """The name of a task: by that name (`train`, `parse[7]`), by the key of its element (`parse[b.csv]`), or by a step and
    an index or a key. `steps` are those of the flow."""
    step = split_task(name)[0] if "[" in name else name
    mine = {task.task: task for task in view.tasks.values() if task.step == step}
    if not mine:
        raise _no_task(view, step, steps())
    if not isinstance(index, int | tuple | str | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CommandRefused(f"No task has the index {shown(index)}.", hint="Give a number, or the key of its element.")
    if index is not None:
        wanted = None if isinstance(index, str) else index_from_people(index)
        found = [task.task for task in mine.values() if (task.key == index if wanted is None else task.index == wanted)]
    else:
        found = [task.task for task in tasks_of(view, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise CommandRefused(f"The step {step!r} has {len(mine)} tasks.", hint=f"Say which: {next(iter(mine))!r}.")
    known = [*mine, *(f"{step}[{task.key}]" for task in mine.values() if task.key)]
    asked = name if index is None else f"{step}[{index}]"
    raise CommandRefused(
        f"The run has no task {asked!r} (yet).", hint=nearest(asked, known) or f"{step!r} has {len(mine)} tasks by now."
    )


def _no_task(view: View, step: str, steps: Sequence[str]) -> CommandRefused:
    if step not in steps:
        return CommandRefused(f"The run has no step {step!r}.", hint=nearest(step, steps))
    known = view.steps.get(step)
    why = "it was skipped" if known and known.skipped else "it is not ready"
    return CommandRefused(f"The step {step!r} has no task: {why}.", hint=f"See run.why({step!r}).")
