"""Outputs that change while a run goes on: one display, updated a few times a second, and a last time at the end.

What is shown comes ready from `nbflow.picture`; here is only when it is shown. jupyter_server drops messages above a
thousand in a second, and a page that redraws five times a second is live enough: so updates are held back and the last
one is never lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from IPython.display import DisplayHandle

from nbflow.errors import NbflowError
from nbflow.model.view import View
from nbflow.notebook.errors import short_error
from nbflow.picture.bundle import run_mimebundle
from nbflow.picture.flow_picture import FlowPicture
from nbflow.picture.html import progress_at, run_text
from nbflow.watch.progress import TICK_S, Ticker, progress_note

__all__ = ["INTERVAL_S", "LiveDisplay", "RunProgress", "ShownRun", "forget_line", "show_run"]

INTERVAL_S = 0.2
Bundle = Mapping[str, str]


class _Handle(Protocol):
    def display(self, obj: Any, **kwargs: Any) -> None: ...
    def update(self, obj: Any, **kwargs: Any) -> None: ...


class ShownRun(Protocol):
    """A run, as far as its picture needs it."""

    @property
    def id(self) -> str: ...
    @property
    def view(self) -> View: ...
    @property
    def picture(self) -> FlowPicture: ...


class LiveDisplay:
    """A displayed mimebundle that follows what it shows.

    `bundle` makes the newest mimebundle; it is called on the thread that calls `update`, or on a timer's when an update
    was held back, never twice at once. After `end` nothing is sent any more.
    """

    def __init__(
        self,
        bundle: Callable[[], Bundle],
        *,
        interval_s: float = INTERVAL_S,
        handle: _Handle | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle = bundle
        self._interval_s = interval_s
        self._handle: _Handle = handle or DisplayHandle()
        self._clock = clock
        self._lock = threading.RLock()
        self._sent_s: float | None = None
        self._timer: threading.Timer | None = None
        self._ended = False

    def show(self) -> None:
        """Display it here, in the cell that runs. Showing it again only updates it."""
        with self._lock:
            if self._sent_s is not None:
                self.update()
                return
            self._sent_s = self._clock()
            self._handle.display(dict(self._bundle()), raw=True)

    def update(self) -> None:
        """There is news. It is sent at once, or with others as soon as the interval is over."""
        with self._lock:
            if self._ended or self._sent_s is None or self._timer is not None:
                return
            left_s = self._sent_s + self._interval_s - self._clock()
            if left_s <= 0:
                self._send()
                return
            self._timer = threading.Timer(left_s, self._send_held_back)
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """Send the last state, whatever was held back. Ending it again does nothing."""
        with self._lock:
            if self._ended:
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._sent_s is not None:
                self._send()
            self._ended = True

    def clear(self) -> None:
        """Leave nothing of it where it was shown, and end it."""
        with self._lock:
            self.end()
            if self._sent_s is not None:
                self._handle.update({"text/html": "", "text/plain": ""}, raw=True)

    def _send_held_back(self) -> None:
        with self._lock:
            if self._timer is not None and not self._ended:
                self._timer = None
                self._send()

    def _send(self) -> None:
        self._sent_s = self._clock()
        self._handle.update(dict(self._bundle()), raw=True)


class RunProgress:
    """What `run.wait()` shows in a notebook: one line with a bar. It is a `nbflow.watch.progress.Progress`.

    The view is read when the news comes, on the thread that may read it; a timer only sends what is known, and once a
    second the time that went by, so that a long step does not look like a hanging kernel. When the same cell then shows the run itself (`run.wait()` was its last line), the picture says all that the line did: it is taken away.
    """

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._line: tuple[Callable[[int], str], str] = (lambda _: "", "")
        self._live: LiveDisplay | None = None
        self._tick_s = tick_s
        self._ticker: Ticker | None = None

    def show(self, view: View, steps: dict[str, dict[str, Any]]) -> None:
        self._tell(view, steps)
        if self._live is None:
            self._live = LiveDisplay(self._bundle)
            self._live.show()
            self._ticker = Ticker(self._live.update, self._tick_s)
            self._ticker.start()
        else:
            self._live.update()

    def close(self, view: View) -> None:
        if self._ticker is not None:
            self._ticker.stop()
        self._tell(view, {})
        if self._live is not None:
            self._live.end()
            _closed[:] = [(view.run_id, self._live)]

    def _tell(self, view: View, steps: dict[str, dict[str, Any]]) -> None:
        said = next(reversed(steps.items()), None)
        note = progress_note(said[1], said[0]) if said and not view.ended else ""
        self._line = progress_at(view, note), run_text(view)

    def _bundle(self) -> Bundle:
        html, text = self._line
        return {"text/html": html(int(time.time() * 1000)), "text/plain": text}


_closed: list[tuple[str, LiveDisplay]] = []  # the last line of the cell that runs, and whose run it is of


def forget_line(result: object = None) -> None:
    """After each cell: its line stays as it is."""
    _closed.clear()


def show_run(run: ShownRun) -> Bundle:
    """The picture of a run for the cell that shows it, up to now. An ended one is the same whenever it is shown.

    Where no server answers, the sentence that says so: IPython would show all of the traceback, once for each format.
    """
    for run_id, line in _closed:
        if run_id == run.id:
            line.clear()
    _closed.clear()
    try:
        view = run.view
        return run_mimebundle(view, run.picture, now_ms=None if view.ended else int(time.time() * 1000))
    except NbflowError as error:
        return {"text/plain": "\n".join(short_error(error, colours=False))}
