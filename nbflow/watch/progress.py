"""What a waiting person sees of a run: one line of text, made from the view, and where it is shown.

On a terminal the line is written over itself; elsewhere nothing is shown. The notebook's layer puts its own display in by
`show_progress_with`. Decides nothing, reads nothing.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from nbflow.model.plain import plain
from nbflow.model.view import StepView, View
from nbflow.picture.tally import elapsed_at

__all__ = [
    "TICK_S",
    "Progress",
    "TerminalLine",
    "Ticker",
    "new_progress",
    "progress_line",
    "progress_note",
    "show_progress_with",
]

SHOWN_STEPS = 4
REDRAW_S = 0.1
TICK_S = 1.0
Line = Callable[[int], str]


class Progress(Protocol):
    """Shows how far a run is."""

    def show(self, view: View, steps: dict[str, dict[str, Any]]) -> None:
        """The view after some events; `steps` is the last `progress` of tasks, by task (`done`, `total`, `message`)."""
        ...

    def close(self, view: View) -> None:
        """Waiting is over: the run has ended, or the person went away."""
        ...


class Ticker:
    """Calls once a second, on a thread of its own, until it is stopped: time goes by also when nothing happens."""

    def __init__(self, call: Callable[[], None], interval_s: float = TICK_S) -> None:
        self._call = call
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Doing it again changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nbflow-ticker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it; when this returns, it calls no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            self._call()


class TerminalLine:
    """One line on a terminal, written over itself ten times a second at most, and once a second at least."""

    def __init__(self, stream: TextIO, tick_s: float = TICK_S) -> None:
        self._stream = stream
        self._drawn_s = 0.0
        self._line: Line = _nothing
        self._lock = threading.Lock()
        self._ticker = Ticker(self._draw, tick_s)

    def show(self, view: View, steps: dict[str, dict[str, Any]]) -> None:
        self._line = _line_at(view, steps)
        now = time.monotonic()
        if now - self._drawn_s >= REDRAW_S:
            self._drawn_s = now
            self._draw()
        self._ticker.start()

    def close(self, view: View) -> None:
        self._ticker.stop()
        self._line = _line_at(view)
        self._draw()
        self._stream.write("\n")
        self._stream.flush()

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            self._stream.write(f"\r{self._line(int(time.time() * 1000))[:width]:<{width}}")
            self._stream.flush()


def _nothing(now_ms: int) -> str:
    return ""


class Silence:
    """Shows nothing: the output is no terminal."""

    def show(self, view: View, steps: dict[str, dict[str, Any]]) -> None: ...
    def close(self, view: View) -> None: ...


_makers: list[Callable[[], Progress]] = []


def show_progress_with(maker: Callable[[], Progress] | None) -> None:
    """Have waiting shown by what `maker` makes for each wait (the notebook's layer calls this); None: as before."""
    _makers[:] = [maker] if maker else []


def new_progress() -> Progress:
    """What shows one wait."""
    if _makers:
        return _makers[0]()
    return TerminalLine(sys.stderr) if sys.stderr.isatty() else Silence()


def progress_line(view: View, now_ms: float, steps: dict[str, dict[str, Any]] | None = None) -> str:
    """`etl running · 3.2 s · 12 of 40 tasks · parse 7/20, 2 running`. What tasks are still to come nobody knows."""
    return _line_at(view, steps)(int(now_ms))


def progress_note(said: Mapping[str, Any], task: str = "") -> str:
    """`parse[7]: 30/100 reading`, of the data of a `progress`; without a task `30/100 reading`."""
    done, total, message = said.get("done"), said.get("total"), said.get("message")
    how_far = f"{done}/{total}" if total else "" if done is None else str(done)
    return " ".join(filter(None, [task and f"{task}:", how_far, str(message or "")]))


def _line_at(view: View, steps: dict[str, dict[str, Any]] | None = None) -> Line:
    """The line for any moment from now on: the view is read here, a ticker only tells the time that went by.

    The time stands near the front, where a narrow terminal does not cut it off.
    """
    done = sum(step.counts.get("completed", 0) for step in view.steps.values())
    total = sum(step.total for step in view.steps.values())
    head, span = _one_line(f"{view.flow_name or 'run'} {view.shown_status}"), elapsed_at(view)
    parts = [f"{done} of {total} task{'' if total == 1 else 's'}"]
    if not view.ended:
        busy = [step for step in view.steps.values() if step.status in ("running", "retrying", "queued", "awaiting")]
        parts += [_step_part(step) for step in busy[:SHOWN_STEPS]]
        parts += ["…"] if len(busy) > SHOWN_STEPS else []
        parts += [progress_note(said, task) for task, said in list((steps or {}).items())[-1:]]
    rest = _one_line(" · ".join(parts))

    def line(now_ms: int) -> str:
        ms = span(now_ms)
        return " · ".join([head, *([] if ms is None else [f"{ms / 1000:.1f} s"]), rest])

    return line


def _one_line(text: str) -> str:
    return plain(" ".join(text.split()))


def _step_part(step: StepView) -> str:
    head = step.name if step.total == 1 else f"{step.name} {step.counts.get('completed', 0)}/{step.total}"
    states = [f"{count} {status}" if step.total > 1 else status for status, count in step.counts.items() if count]
    return ", ".join([head, *(state for state in states if not state.endswith("completed"))])
