"""A run as its events tell it: its status, its results, its tables. It reads what it is asked for, and nothing before that.

It keeps a view, folded on from the last id it knows; of an ended run it reads once. The view is folded from the deciding
stream alone: logs are read when they are asked for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, cast, overload

from nbflow.errors import CommandRefused, NbflowError, NotEnded, StepFailure, nearest
from nbflow.model.events import BOUNDED_TYPES, Event
from nbflow.model.triggered import Triggered, triggered_of
from nbflow.model.view import View, reduce
from nbflow.model.waiting import stall_text
from nbflow.picture.flow_picture import FlowPicture, picture_of_run
from nbflow.watch import frames
from nbflow.watch.backend import EventLog, RunBackend
from nbflow.watch.results import failure_of_run, result_of_run, result_of_step
from nbflow.watch.why import Reason, reason_of, reasons

__all__ = ["ToldRun", "step_name"]


class ToldRun:
    """What can be read of a run."""

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
    def trigger(self) -> Triggered | None:
        """What started it, or the run that it goes on from, as its events tell it; None if somebody did so with `flow.start`."""
        told = self.view.start.get("trigger")
        return triggered_of(told) if told else None

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
        return result_of_step(self.view, step_name(step), self._decode)

    def __contains__(self, step: object) -> bool:
        return step_name(step) in self.view.steps

    __iter__ = None  # a run is no sequence: without this, Python would try run[0], run[1], …

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.view.steps)

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
        """Why no outstanding task has been able to go on for the flow's `stall_after` (a minute) without somebody acting;
        None if one can. Of a run as it was, in a file for example: as its events tell it."""
        obstacles, view = self._log.obstacles, self.view
        if obstacles is None:
            return stall_text(str(view.stalled.get("cause")), str(view.stalled.get("queue"))) if view.stalled else None
        told = None if view.ended else obstacles.stalled(self.id)
        return told.text if told else None

    def reason(self, step: str | Callable[..., Any]) -> Reason:
        """What `why(step)` says, with its cause as one word."""
        return reason_of(self.view, self.picture, self._log.obstacles, step_name(step))

    def reasons(self) -> list[Reason]:
        """What `why()` shows, as objects."""
        return reasons(self.view, self.picture, self._log.obstacles)

    def artifact(self, name: str) -> Any:
        """What a step kept with `ctx.artifact(name, …)`; of several of one name the last. A figure comes as PNG bytes."""
        kept = self.view.artifacts
        if not isinstance(name, str) or name not in kept:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CommandRefused(f"The run kept no artifact {name!r}.", hint=nearest(name, kept))
        return self._decode(kept[name])

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


def step_name(step: Any) -> str:
    if isinstance(step, str):
        return step
    declaration = getattr(step, "step", None)
    return str(declaration.spec.name) if declaration is not None else str(step)
