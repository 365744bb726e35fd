"""What a waiting person sees of a run: one line of text, made from the view, and where it is shown.

On a terminal the line is written over itself; elsewhere nothing is shown. The notebook's layer puts its own display in by
`show_progress_with`. Decides nothing, reads nothing.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from nbflow.model.view import StepView, View

__all__ = ["Progress", "TerminalLine", "new_progress", "progress_line", "show_progress_with"]

SHOWN_STEPS = 4
REDRAW_S = 0.1


class Progress(Protocol):
    """Shows how far a run is."""

    def show(self, view: View, steps: dict[str, dict[str, Any]]) -> None:
        """The view after some events; `steps` is the last `progress` of tasks, by task (`done`, `total`, `message`)."""
        ...

    def close(self, view: View) -> None:
        """Waiting is over: the run has ended, or the person went away."""
        ...


class TerminalLine:
    """One line on a terminal, written over itself ten times a second at most."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn_s = 0.0

    def show(self, view: View, steps: dict[str, dict[str, Any]]) -> None:
        now = time.monotonic()
        if now - self._drawn_s >= REDRAW_S:
            self._drawn_s = now
            self._draw(progress_line(view, time.time() * 1000, steps))

    def close(self, view: View) -> None:
        self._draw(progress_line(view, time.time() * 1000))
        self._stream.write("\n")
        self._stream.flush()

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:width]:<{width}}")
        self._stream.flush()


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
    """`etl running · 12 of 40 tasks · parse 7/20, 2 running · 3.2 s`. What tasks are still to come nobody knows."""
    done = sum(step.counts.get("completed", 0) for step in view.steps.values())
    total = sum(step.total for step in view.steps.values())
    parts = [f"{view.flow_name or 'run'} {view.status}", f"{done} of {total} tasks"]
    if not view.ended:
        busy = [step for step in view.steps.values() if step.status in ("running", "retrying", "queued", "awaiting")]
        parts += [_step_part(step) for step in busy[:SHOWN_STEPS]]
        parts += ["…"] if len(busy) > SHOWN_STEPS else []
        parts += [_said(task, said) for task, said in list((steps or {}).items())[-1:]]
    if view.started_ms is not None:
        parts.append(f"{max(0.0, (view.ended_ms or now_ms) - view.started_ms) / 1000:.1f} s")
    return " · ".join(parts)


def _step_part(step: StepView) -> str:
    head = step.name if step.total == 1 else f"{step.name} {step.counts.get('completed', 0)}/{step.total}"
    states = [f"{count} {status}" if step.total > 1 else status for status, count in step.counts.items() if count]
    return ", ".join([head, *(state for state in states if not state.endswith("completed"))])


def _said(task: str, said: dict[str, Any]) -> str:
    done, total, message = said.get("done"), said.get("total"), said.get("message")
    how_far = f"{done}/{total}" if total else f"{done}" if done is not None else ""
    return " ".join(filter(None, [f"{task}:", how_far, str(message or "").replace("\n", " ")]))
