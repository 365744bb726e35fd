"""A run as it goes: a live table of its steps on a terminal, plain lines elsewhere. Changes nothing of the run."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

from nbflow.cli.payloads import shown
from nbflow.cli.terminal import COLOURS, block, console, plain, say, warn
from nbflow.model.events import BOUNDED_TYPES, Event
from nbflow.model.view import View, reduce
from nbflow.picture.style import duration
from nbflow.picture.tally import Tally, elapsed_ms, tallies
from nbflow.watch.progress import progress_note
from nbflow.watch.results import failure_of_run, result_of_run

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nbflow.watch.run import Run

__all__ = ["ENDS", "event_line", "follow", "log_line", "tell_end"]

ENDS = {"completed": 0, "failed": 1, "canceled": 2}
"""How a run ended, as an exit code."""

_REDRAW_S = 0.1
_LOUD = ("step.completed", "step.failed", "step.retry", "step.canceled", "step.skipped")
_BAR = 12


class Shown(Protocol):
    """Where a run is shown while it goes."""

    def event(self, event: Event) -> None: ...
    def close(self) -> None: ...


def follow(run: Run, *, silently: bool = False) -> View:
    """Show the run up to its end, and give it back as its events told it."""
    view = View(run.id, run.flow)
    shown_at: Shown = _Silence() if silently else _Live(view) if sys.stdout.isatty() else _Lines()
    with contextlib.closing(shown_at), contextlib.closing(run.follow()) as events:
        for event in events:
            if event.type not in BOUNDED_TYPES and not isinstance(shown_at, _Live):
                reduce(view, event)
            shown_at.event(event)
    return view


def tell_end(view: View) -> None:
    """How the run ended: its result, or where it failed."""
    took = duration(elapsed_ms(view))
    say(f"Run {view.run_id[:8]} of {plain(view.flow_name)} {view.status} after {took}.")
    if view.status == "completed":
        result: Any = result_of_run(view, lambda tree: tree)
        say(f"Result: {shown(result)}")
    elif view.status == "failed":
        failure = failure_of_run(view)
        warn(f"Error: {plain(failure.message)}")
        if failure.traceback:
            warn(block(failure.traceback.rstrip()))
        warn(f"→ Look closer: nbflow show {view.run_id[:8]} · nbflow logs {view.run_id[:8]}")
    elif view.end.get("reason"):
        say(f"Reason: {plain(view.end['reason'])}")


def log_line(event: Event) -> str:
    """`12:03:04.123 parse[7] info read the file rows=3`."""
    data = event.data
    fields = data.get("fields")
    named = cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}
    more = " ".join(f"{plain(name)}={shown(value, 100)}" for name, value in named.items())
    parts = (_clock(event), event.task, str(data.get("level", "")), str(data.get("message", "")))
    return " ".join(filter(None, (*map(plain, parts), more)))


def event_line(event: Event) -> str:
    """An event in one line, its data in short."""
    if event.type == "log":
        return log_line(event)
    data = {name: value for name, value in event.data.items() if name not in ("traceback", "graph", "fingerprints")}
    attempt = f"(attempt {event.attempt})" if event.attempt > 1 else ""
    parts = (_clock(event), event.type, event.task, attempt)
    return " ".join(filter(None, (*map(plain, parts), shown(data) if data else "")))


def _clock(event: Event) -> str:
    return event.ts.astimezone().strftime("%H:%M:%S.%f")[:-3]


def _short_line(event: Event) -> str:
    """What is worth a line while one waits; empty if it is not."""
    if event.type == "log":
        return log_line(event)
    if event.type not in _LOUD:
        return ""
    data = event.data
    took = data.get("duration")
    said = duration(int(took)) if isinstance(took, int | float) else ""
    why = data.get("error") or data.get("reason") or ""
    return " ".join(filter(None, map(plain, (_clock(event), event.task, event.type.removeprefix("step."), said, why))))


class _Silence:
    def event(self, event: Event) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """One line for each log and each end of a task."""

    def event(self, event: Event) -> None:
        if line := _short_line(event):
            say(line)

    def close(self) -> None: ...


class _Live:
    """A table that is drawn over itself, logs above it. The drawing thread and the reading one take turns."""

    def __init__(self, view: View) -> None:
        from rich.live import Live

        self._view = view
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()
        self._console = console()
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=1 / _REDRAW_S)
        self._live.start()

    def event(self, event: Event) -> None:
        from rich.text import Text

        with self._lock:
            if event.type not in BOUNDED_TYPES:
                reduce(self._view, event)
            elif event.type == "progress":
                self._said[event.step_name] = progress_note(event.data)
        if event.type == "log":
            self._console.print(Text(log_line(event)))

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        with self._lock:
            return _steps(self._view, self._said)


def _steps(view: View, said: dict[str, str]) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    now_ms = int(time.time() * 1000)
    head = Text.assemble(
        (plain(view.flow_name), "bold"),
        " ",
        (plain(view.shown_status), COLOURS.get(view.shown_status, "")),
        f" · {duration(elapsed_ms(view, now_ms))} · {plain(view.run_id[:8])}",
    )
    rows = Table.grid(padding=(0, 2, 0, 0))
    for name, tally in tallies(view).items():
        bar = ProgressBar(total=tally.total or 1, completed=tally.completed, width=_BAR) if tally.total > 1 else ""
        rows.add_row(
            Text(plain(name)),
            Text(tally.status, style=COLOURS.get(tally.status, "")),
            bar,
            Text(f"{tally.completed}/{tally.total}" if tally.total > 1 else ""),
            Text(duration(tally.duration_ms(now_ms))),
            Text(_note(tally, said.get(name, "")), style="dim", no_wrap=True, overflow="ellipsis"),
        )
    return Group(head, rows)


def _note(tally: Tally, said: str) -> str:
    text = tally.error or tally.skipped or (said if tally.status == "running" else "")
    return plain(text.splitlines()[0]) if text else ""
