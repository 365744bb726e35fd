"""The line that a waiting person sees on a terminal: what it tells, that it goes on, and that nobody steers it."""

from __future__ import annotations

import io
import threading

import pytest

from nbflow.model.events import Event
from nbflow.model.view import View, reduce
from nbflow.watch.progress import TerminalLine, Ticker, progress_line

BEGAN_MS = 1_764_000_000_000


def view_of(*events: tuple[str, str]) -> View:
    view = View("3f2a91c07d5e4b6fa8c1b2d3e4f50617", "etl")
    for number, (kind, task) in enumerate(events):
        reduce(view, Event(f"{BEGAN_MS + number}-0", kind, view.run_id, "etl", task, 1, {}))
    return view


RUNNING = (("flow.start", ""), ("step.queued", "parse"), ("step.started", "parse"))


def test_the_line_tells_the_time_before_what_may_be_cut_off():
    line = progress_line(view_of(*RUNNING), BEGAN_MS + 3200, {"parse": {"done": 7, "total": 20, "message": "reading"}})
    assert line == "etl running · 3.2 s · 0 of 1 task · parse, running · parse: 7/20 reading"


def test_an_ended_run_is_told_without_its_steps():
    view = view_of(*RUNNING, ("step.completed", "parse"), ("flow.completed", ""))
    assert progress_line(view, BEGAN_MS + 9999) == "etl completed · 0.0 s · 1 of 1 task"


def test_what_a_step_says_cannot_steer_the_terminal():
    """No escape, no return to the beginning, no second line."""
    said = {"message": "a\x1b[2J\r\nb\x1b]0;title\x07\u202e"}
    line = progress_line(view_of(*RUNNING), BEGAN_MS, {"parse": said})
    assert line.endswith("parse: a\\x1b[2J b\\x1b]0;title\\x07\\u202e")
    assert line.isprintable()


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "\x9b31m", "\x1b[2J\u202e"])
def test_no_name_can_steer_the_terminal_either(evil: str):
    """Law: whatever the flow, a step, a task or its message is called."""
    view = View("r1", f"etl{evil}")
    for number, (kind, task) in enumerate((("flow.start", ""), ("step.queued", evil), ("step.started", evil))):
        reduce(view, Event(f"{BEGAN_MS + number}-0", kind, "r1", view.flow_name, task, 1, {}))
    line = progress_line(view, BEGAN_MS, {evil: {"done": evil, "message": evil}})
    assert line.isprintable()
    assert line.count(evil[1:4]) >= 4


def test_the_line_goes_on_when_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    written, drawn = io.StringIO(), threading.Semaphore(0)
    now_s = [BEGAN_MS / 1000]
    monkeypatch.setattr("nbflow.watch.progress.time.time", lambda: now_s[0])
    line = TerminalLine(written, tick_s=0.01)
    monkeypatch.setattr(written, "flush", drawn.release)
    line.show(view_of(*RUNNING), {})
    now_s[0] += 60
    assert all(drawn.acquire(timeout=5) for _ in range(3))
    line.close(view_of(*RUNNING, ("step.completed", "parse"), ("flow.completed", "")))
    assert "etl running · 60.0 s · 0 of 1 task" in written.getvalue()
    assert written.getvalue().rstrip().endswith("etl completed · 0.0 s · 1 of 1 task")
    assert written.getvalue().endswith("\n")


def test_a_stopped_ticker_leaves_no_thread():
    called = threading.Semaphore(0)
    ticker = Ticker(called.release, 0.001)
    ticker.start()
    ticker.start()
    assert called.acquire(timeout=5)
    ticker.stop()
    ticker.stop()
    assert "nbflow-ticker" not in [thread.name for thread in threading.enumerate()]


def test_a_ticker_that_never_began_can_be_stopped():
    Ticker(lambda: None).stop()
