"""The handle of a run that a person holds: what can be read of it, and what can be done with it.

Commands go to the backend, which is put in by the composition root.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

from nbflow.define.asked import asked_event_id, asked_path, asked_patience, asked_text
from nbflow.define.flow import FlowDefinition, asked_flow
from nbflow.errors import UnknownRun
from nbflow.model.view import View
from nbflow.picture.bundle import run_mimebundle
from nbflow.watch import frames
from nbflow.watch.archive import write_archive
from nbflow.watch.backend import Followed, How
from nbflow.watch.earlier import PastRun, log_up_to, told_of_reuse
from nbflow.watch.progress import Progress, new_progress
from nbflow.watch.questions import question_of
from nbflow.watch.task import TaskHandle, find_task
from nbflow.watch.told import ToldRun, step_name

__all__ = ["Run", "show_runs_with"]


class Run(ToldRun):
    """One execution of a flow."""

    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Run:
        """Wait for the end, whichever it is, and return this handle.

        Ctrl-C stops the waiting and leaves the run. `TimeoutError` after `timeout` seconds; the run goes on then as well.
        """
        timeout, shown = asked_patience(timeout), new_progress() if progress else None
        try:
            self._wait(timeout, shown)
        except KeyboardInterrupt:
            _say(f"Detached; the run goes on. Come back: nbflow.run({self.id[:8]!r}).wait() · stop it: .cancel()")
        finally:
            if shown is not None:
                shown.close(self._view)
        return self

    def __await__(self) -> Generator[Any, None, Run]:
        return self._await().__await__()

    def follow(self, after: str = "0-0", timeout: float | None = None) -> Followed:
        """Its events as they come, from the first one (or after an id): for `for` and for `async for`."""
        return self._backend.follower.follow(self.id, asked_event_id(after), asked_patience(timeout))

    def cancel(self, reason: str = "") -> Run:
        """End the run. Nothing of it starts any more, what runs is interrupted, and nothing it still does counts."""
        self._backend.cancel(self.id, asked_text("The reason of a cancel", reason))
        return self

    def resolve(self, step: str | Callable[..., Any], data: Any = None) -> Run:
        """End the wait of a task with an answer: what its `Approval` or `Webhook` asks for, or any JSON for other waits.
        Of a mapped step one task is named, by index or key: `run.resolve("pay[3]", {"ok": True})`.

        `CommandRefused` if the answer does not fit, `AlreadyAnswered` if somebody was faster: nothing was changed then.
        """
        self._backend.resolve(self.id, question_of(self.view, step_name(step)), data)
        return self

    def resume(self, *, changed: bool = False) -> Run:
        """Go on where it ended: a new run of the flow as it is defined now, with the same input. What completed here is
        taken over, with what it emitted, as long as it would receive the same; what failed, what is new and what follows
        from it is executed.

        Of a step whose code has changed, too, what completed is kept, and told. `changed=True` executes it anew, and of
        what follows only what then receives something else. `NotEnded` if this run goes on: see `fork`.
        """
        return self._again("resume", changed=changed)

    def fork(self, at: str | None = None) -> Run:
        """Go on from an event (an id of `run.events`), in a new run: with what had completed by then and the state that
        was, and with idempotency keys of its own. Without `at`, from now on. `flow.plan(run)` tells what is executed."""
        return self._again("fork", at=at)

    def restart(self) -> Run:
        """A new run of the flow as it is defined now, with the same input, that takes nothing over."""
        return self._again("restart")

    def at(self, event_id: str) -> Run:
        """The run as it was at an event (an id of `run.events`), to look at: `run.at(id).tasks`, its state, its picture."""
        log = log_up_to(self.id, self.flow, self._log.read(self.id), event_id)
        return Run(self.id, PastRun(log, self._backend.codec_for(self.id), event_id), flow=self.flow)

    def task(self, name: str | Callable[..., Any], index: int | tuple[int, ...] | str | None = None) -> TaskHandle:
        """One task, to act on: `run.task("parse[7]").cancel()`, `.retry()`, `.complete(value)`, `.debug()`. An element of a
        mapped step is named by index or key, also as `run.task(parse, 7)`. `CommandRefused` if there is none (yet)."""
        found = find_task(self.view, step_name(name), index, lambda: [step.name for step in self.picture.steps])
        return TaskHandle(self.id, found, lambda: self.view, lambda: self._backend.hands)

    def foresee(self, flow: FlowDefinition, *, changed: bool = False) -> frames.DataFrame:
        """See `flow.plan(run)`."""
        return frames.plan(self._backend.foresee(self.id, asked_flow(flow), changed=changed))

    def delete(self) -> None:
        """Delete the run, which has ended, with all that only it refers to. `CommandRefused` if it lives: cancel it first."""
        self._backend.delete(self.id)
        with self._lock:
            self._view = View(self.id, self._flow)  # what is gone is not shown from memory

    def export(self, path: str | Path) -> Path:
        """Write the run into one file: its events and artifacts, without pickles. `nbflow.load(path)` shows it anywhere."""
        return write_archive(asked_path(path), self.id, self._log, self._backend.codec_for(self.id).artifacts)

    @property
    def children(self) -> list[Run]:
        """The runs that its steps started, in their order."""
        return [self._backend.handle(child.run, child.flow) for child in self.view.children]

    @property
    def parent(self) -> Run | None:
        """The run that started it; None if somebody else did."""
        told = cast("dict[str, Any]", self.view.start.get("parent") or {})
        return self._backend.handle(str(told["run"]), str(told.get("flow", ""))) if "run" in told else None

    def __repr__(self) -> str:
        """Without an id: a saved notebook that is executed again shows the same."""
        try:
            return f"<Run of {self.flow!r}: {self.status}>"
        except UnknownRun:
            return f"<Run of {self._flow!r}, which is not there (any more)>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return _shown_with[0](self) if _shown_with else run_mimebundle(self.view, self.picture)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def _wait(self, timeout: float | None, shown: Progress | None) -> None:
        view, said = self.view if timeout is None else self._view, dict[str, dict[str, Any]]()
        if view.ended:  # with a timeout the following reads, which does not wait for a silent server
            return
        with contextlib.closing(self.follow(view.last_id, timeout)) as following:
            if shown is not None and view.events:
                shown.show(view, said)
            for event in following:
                self._fold(event, said)
                if shown is not None:
                    shown.show(view, said)
                if event.ends_run:
                    return

    async def _await(self) -> Run:
        events = aiter(self.follow(self._view.last_id))
        async with contextlib.aclosing(cast("Any", events)):
            async for event in events:
                self._fold(event, {})
                if event.ends_run:
                    break
        return self

    def _again(self, how: How, *, at: str | None = None, changed: bool = False) -> Run:
        run = self._backend.again(self.id, how, at=at, changed=changed)
        _say(told_of_reuse(run.view))
        return run


_shown_with: list[Callable[[Run], Any]] = []


def show_runs_with(maker: Callable[[Run], Any] | None) -> None:
    """Have runs displayed by what `maker` makes of them, a mime bundle (the notebook's layer calls this)."""
    _shown_with[:] = [maker] if maker else []


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
