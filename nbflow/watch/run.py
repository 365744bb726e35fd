"""The handle of a run that a person holds. It reads what it is asked for, and nothing before that.

It keeps a view, folded on from the last id it knows; of an ended run it reads once. The view is folded from the deciding
stream alone: logs are read when they are asked for. Commands go to the backend, which is put in by the composition root.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

from nbflow.errors import CommandRefused, NbflowError, NotEnded, StepFailure, UnknownRun, nearest
from nbflow.model.artifacts import ArtifactStore
from nbflow.model.events import BOUNDED_TYPES, Event
from nbflow.model.view import View, reduce
from nbflow.model.waiting import Question
from nbflow.picture.bundle import run_mimebundle
from nbflow.picture.flow_picture import FlowPicture, picture_of_run
from nbflow.store.obstacles import Obstacles
from nbflow.watch import frames
from nbflow.watch.archive import write_archive
from nbflow.watch.earlier import PastRun, log_up_to, told_of_reuse
from nbflow.watch.progress import Progress, new_progress
from nbflow.watch.questions import question_of
from nbflow.watch.results import failure_of_run, result_of_run, result_of_step
from nbflow.watch.why import Reason, reason_of, reasons

if TYPE_CHECKING:
    from nbflow.define.flow import FlowDefinition

__all__ = ["Decoder", "EventLog", "Followed", "Follows", "How", "Run", "RunBackend", "show_runs_with"]

How = Literal["resume", "fork", "restart"]


class Decoder(Protocol):
    """What the handle needs of `nbflow.model.codec.Codec`."""

    @property
    def artifacts(self) -> ArtifactStore | None: ...
    def decode_value(self, tree: Any) -> Any: ...


class EventLog(Protocol):
    """Where the events of runs are read from: `RunLog` of a store, or the record of a run in process."""

    def flow_of(self, run_id: str, /) -> str: ...
    def read(self, run_id: str, after: str = "0-0", /, *, logs: bool = True) -> Iterator[Event]: ...
    def only_logs(self, run_id: str, /) -> Iterator[Event]: ...
    @property
    def obstacles(self) -> Obstacles | None: ...


class Followed(Protocol):
    """The events of a run as they come."""

    def __iter__(self) -> Iterator[Event]: ...
    def __next__(self) -> Event: ...
    def __aiter__(self) -> AsyncIterator[Event]: ...
    def close(self) -> None: ...


class Follows(Protocol):
    """What follows runs: `Follower` of a store, or the record of a run in process."""

    def follow(self, run_id: str, after: str, timeout: float | None, /) -> Followed: ...


class RunBackend(Protocol):
    """What a handle works with. The composition root is one."""

    @property
    def log(self) -> EventLog: ...
    @property
    def follower(self) -> Follows: ...
    def codec_for(self, run_id: str) -> Decoder:
        """The codec that opens the run's payloads: with the types of the flow where this process has them."""
        ...

    def cancel(self, run_id: str, reason: str) -> None: ...
    def resolve(self, run_id: str, question: Question, data: Any) -> None: ...
    def delete(self, run_id: str) -> None: ...
    def again(self, run_id: str, how: How, *, at: str | None = None, changed: bool = False) -> Run: ...
    def foresee(self, run_id: str, flow: FlowDefinition, *, changed: bool) -> list[frames.PlanRow]: ...


class Run:
    """One execution of a flow."""

    def __init__(self, run_id: str, backend: RunBackend, *, flow: str = "") -> None:
        self.id = run_id
        self._backend = backend
        self._flow = flow
        self._view = View(run_id, flow)
        self._lock = threading.RLock()

    @property
    def _log(self) -> EventLog:
        """As it is now: the stack may have been down in between."""
        return self._backend.log

    @property
    def flow(self) -> str:
        """The name of its flow."""
        if not self._flow:
            self._flow = self._log.flow_of(self.id)
        return self._flow

    @property
    def status(self) -> str:
        """`running`, `awaiting` (something is held, and nothing else is under way), `completed`, `failed`, `canceled`."""
        return self.view.shown_status

    @property
    def version(self) -> int | None:
        """The number of the published version that it runs; None for code that was at hand."""
        return self.view.start.get("version")

    @property
    def view(self) -> View:
        """The run as its events tell it up to now. It is this handle's own: look, do not change."""
        with self._lock:
            if not self._view.ended or self._view.has_unfinished:  # what was under way is told one by one
                for event in self._log.read(self.id, self._view.last_id, logs=False):
                    reduce(self._view, event)
            return self._view

    @property
    def result(self) -> Any:
        """The value. `StepFailure` if the run failed, `RunEnded` if it was canceled, `NotEnded` if it goes on."""
        view = self.view
        if not view.ended:
            raise NotEnded(
                f"The run of {view.flow_name!r} has not ended: it is {view.shown_status}.",
                hint="Wait for it with run.wait(), or take a finished step by run['step'].",
            )
        self._fetch_graph()
        return result_of_run(view, self._decode)

    @property
    def error(self) -> StepFailure | None:
        """What `result` would raise if the run failed; else None."""
        view = self.view
        return failure_of_run(view) if view.status == "failed" else None

    @property
    def input(self) -> Any:
        return self._decode(self.view.input)

    @property
    def state(self) -> dict[str, Any]:
        """`ctx.state` as the events tell it."""
        return {key: self._decode(value) for key, value in self.view.state.items()}

    def __getitem__(self, step: str | Callable[..., Any]) -> Any:
        """The result of a step, by its name or by its function; of a mapped one something to index: `run["parse"][7]`,
        `run["parse"]["b.csv"]`."""
        self._fetch_graph()
        return result_of_step(self.view, _step_name(step), self._decode)

    def __contains__(self, step: object) -> bool:
        return _step_name(step) in self.view.steps

    __iter__ = None  # a run is no sequence: without this, Python would try run[0], run[1], …

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.view.steps)

    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Run:
        """Wait for the end, whichever it is, and return this handle.

        Ctrl-C stops the waiting and leaves the run. `TimeoutError` after `timeout` seconds; the run goes on then as well.
        """
        shown = new_progress() if progress else None
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
        return self._backend.follower.follow(self.id, after, timeout)

    def cancel(self, reason: str = "") -> Run:
        """End the run. Nothing of it starts any more, what runs is interrupted, and nothing it still does counts."""
        self._backend.cancel(self.id, reason)
        return self

    def resolve(self, step: str | Callable[..., Any], data: Any = None) -> Run:
        """End the wait of a task with an answer: what its `Approval` or `Webhook` asks for, or any JSON for other waits.
        Of a mapped step one task is named, by index or key: `run.resolve("pay[3]", {"ok": True})`.

        `CommandRefused` if the answer does not fit, `AlreadyAnswered` if somebody was faster: nothing was changed then.
        """
        self._backend.resolve(self.id, question_of(self.view, _step_name(step)), data)
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

    def foresee(self, flow: FlowDefinition, *, changed: bool = False) -> frames.DataFrame:
        """See `flow.plan(run)`."""
        return frames.plan(self._backend.foresee(self.id, flow, changed=changed))

    def delete(self) -> None:
        """Delete the run, which has ended, with all that only it refers to. `CommandRefused` if it lives: cancel it first."""
        self._backend.delete(self.id)
        with self._lock:
            self._view = View(self.id, self._flow)  # what is gone is not shown from memory

    def export(self, path: str | Path) -> Path:
        """Write the run into one file: its events and artifacts, without pickles. `nbflow.load(path)` shows it anywhere."""
        return write_archive(path, self.id, self._log, self._backend.codec_for(self.id).artifacts)

    @property
    def events(self) -> frames.DataFrame:
        return frames.events(self._log.read(self.id))

    @property
    def tasks(self) -> frames.DataFrame:
        return frames.tasks(self.view)

    @property
    def attempts(self) -> frames.DataFrame:
        return frames.attempts(self.view)

    @property
    def logs(self) -> frames.DataFrame:
        return frames.logs(self._log.only_logs(self.id))

    @property
    def metrics(self) -> frames.DataFrame:
        return frames.metrics(self._log.only_logs(self.id))

    @property
    def artifacts(self) -> frames.DataFrame:
        return frames.artifacts(self._log.read(self.id, logs=False))

    @property
    def picture(self) -> FlowPicture:
        """The graph it was started with, ready to be drawn."""
        self._fetch_graph()
        return picture_of_run(self._view)

    @overload
    def why(self) -> frames.DataFrame: ...
    @overload
    def why(self, step: str | Callable[..., Any]) -> str: ...
    def why(self, step: str | Callable[..., Any] | None = None) -> str | frames.DataFrame:
        """The one reason why a step (or a task, `"parse[7]"`) is not running; without a step, of each."""
        if step is None:
            return frames.why(self.reasons())
        return self.reason(step).text

    @property
    def stalled(self) -> str | None:
        """Why no outstanding task has been able to go on for a minute without somebody acting; None if one can."""
        obstacles = self._log.obstacles
        told = None if obstacles is None or self.view.ended else obstacles.stalled(self.id)
        return told.text if told else None

    def reason(self, step: str | Callable[..., Any]) -> Reason:
        """What `why(step)` says, with its cause as one word."""
        return reason_of(self.view, self.picture, self._log.obstacles, _step_name(step))

    def reasons(self) -> list[Reason]:
        """What `why()` shows, as objects."""
        return reasons(self.view, self.picture, self._log.obstacles)

    def artifact(self, name: str) -> Any:
        """What a step kept with `ctx.artifact(name, …)`; of several of one name the last. A figure comes as PNG bytes."""
        kept = self.view.artifacts
        if name not in kept:
            raise CommandRefused(f"The run kept no artifact {name!r}.", hint=nearest(name, kept))
        return self._decode(kept[name])

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

    def _fold(self, event: Event, said: dict[str, dict[str, Any]]) -> None:
        if event.type not in BOUNDED_TYPES:
            with self._lock:
                reduce(self._view, event)
        elif event.type == "progress":
            said.pop(event.task, None)
            said[event.task] = event.data

    def _fetch_graph(self) -> None:
        """Above 4 KiB `flow.start` only refers to the graph. Without it (the bytes are gone) a run is still a run."""
        graph = self.view.start.get("graph")
        if isinstance(graph, dict) and "$ref" in graph:
            with contextlib.suppress(NbflowError):
                self._view.start["graph"] = self._decode(cast("Any", graph))

    def _decode(self, tree: Any) -> Any:
        return self._backend.codec_for(self.id).decode_value(tree)


_shown_with: list[Callable[[Run], Any]] = []


def show_runs_with(maker: Callable[[Run], Any] | None) -> None:
    """Have runs displayed by what `maker` makes of them, a mime bundle (the notebook's layer calls this)."""
    _shown_with[:] = [maker] if maker else []


def _step_name(step: Any) -> str:
    if isinstance(step, str):
        return step
    declaration = getattr(step, "step", None)
    return str(declaration.spec.name) if declaration is not None else str(step)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
