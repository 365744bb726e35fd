"""The extension in a real shell: magics, completion, cells, short errors, and that it can be taken out again."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbflow.define import registry
from nbflow.define.registry import CellId
from nbflow.errors import InternalError, StepFailure, UnknownRun
from nbflow.local.stack import StackStatus
from nbflow.model.waiting import Question
from nbflow.notebook import cells
from nbflow.notebook.errors import short_error
from nbflow.notebook.extension import load_ipython_extension, unload_ipython_extension
from nbflow.notebook.magics import NbflowMagics

IDS = ["3f2a91c07d5e4b6fa8c1b2d3e4f50617", "3f2a91c07d5effffffffffffffffffff", "77" * 16]
TRACEBACK = """Traceback (most recent call last):
  File "/tmp/ipykernel_42/1234.py", line 4, in parse
    return int(text)
  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError
  File "/home/me/project/tools.py", line 9, in convert
    return float(text)
           ~~~~~^^^^^^
ValueError: could not convert string to float: 'x'
"""
FAILURE = StepFailure(
    "Step 'parse' failed in task parse[7].",
    hint="Fix it and resume the run.",
    run_id=IDS[0],
    task="parse[7]",
    error="ValueError: could not convert string to float: 'x'",
    traceback=TRACEBACK,
)


@dataclass
class FakeRun:
    id: str
    logs: str = "the logs"

    def resume(self, *, changed: bool) -> tuple[str, bool]:
        return self.id, changed


class FakeApp:
    """Answers as `Nbflow` does, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.fails = self.is_connected = False
        self.stack = StackStatus(running=False, folder=Path("/home/me/project/.nbflow/env"))

    def status(self) -> StackStatus:
        self.asked.append(("status",))
        return self.stack

    def set_workers(self, count: int) -> None:
        self.asked.append(("workers", count))

    def runs(self, *, flow: str | None = None, limit: int = 50) -> pd.DataFrame:
        if self.fails:
            raise ConnectionError
        return pd.DataFrame({"id": IDS, "flow": ["etl", "orders", "etl"], "status": ["failed", "running", "completed"]})

    def run(self, prefix: str) -> FakeRun:
        found = [one for one in IDS if one.startswith(prefix)]
        if len(found) != 1:
            raise UnknownRun(f"No run begins with {prefix!r}.", hint="See %nbflow runs.")
        return FakeRun(found[0])

    def resolve(self, run_id: str, question: Question, data: Any) -> None:
        raise AssertionError(f"nobody answers here: {run_id} {question} {data}")

    def cancel(self, run_id: str, reason: str) -> None:
        self.asked.append(("cancel", run_id, reason))

    def down(self) -> bool:
        return True


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[InteractiveShell]:
    """A shell of its own, without history on disk."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    registry.reset()
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    shell.Completer.use_jedi = False
    yield shell
    unload_ipython_extension(shell)
    InteractiveShell.clear_instance()


@pytest.fixture
def app(shell: InteractiveShell) -> FakeApp:
    load_ipython_extension(shell)
    app, magics = FakeApp(), magics_of(shell)
    magics._make_app = lambda: app
    return app


def magics_of(shell: InteractiveShell) -> NbflowMagics:
    return shell.magics_manager.registry["NbflowMagics"]


def run(shell: InteractiveShell, code: str) -> Any:
    result = shell.run_cell(code)
    assert result.success, result.error_in_exec
    return result.result


def complete(shell: InteractiveShell, text: str) -> list[str]:
    """What a person would see in the line after the tabulator."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text)))
    return [(text[: one.start] + one.text).split()[-1] for one in found]


# -- loading ----------------------------------------------------------------------------------------------------------


def test_loading_and_unloading_leave_no_trace(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    def state() -> tuple[Any, ...]:
        return (
            dict(shell.magics_manager.magics["line"]),
            set(shell.magics_manager.registry),
            list(shell.Completer.custom_matchers),
            list(shell.events.callbacks["post_run_cell"]),
            shell.custom_exceptions,
            registry.here(),
        )

    before = state()
    load_ipython_extension(shell)
    load_ipython_extension(shell)
    assert len(shell.Completer.custom_matchers) == len(before[2]) + 1
    unload_ipython_extension(shell)
    unload_ipython_extension(shell)
    assert state() == before
    assert capsys.readouterr() == ("", "")


def test_the_magics_of_ipython_load_it(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    for line in ("%load_ext nbflow.notebook.extension", "%reload_ext nbflow.notebook.extension"):
        run(shell, line)
        assert "nbflow" in shell.magics_manager.magics["line"]
        assert len(shell.Completer.custom_matchers) == 1
    assert capsys.readouterr() == ("", "")
    run(shell, "%unload_ext nbflow.notebook.extension")
    assert "nbflow" not in shell.magics_manager.magics["line"]


# -- magics -----------------------------------------------------------------------------------------------------------


def test_the_magic_alone_shows_status_and_usage(
    shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]
):
    run(shell, "%nbflow")
    said = capsys.readouterr().out
    assert "%nbflow cancel RUN" in said
    assert "The local server is not running." in said


def test_the_status_is_a_sentence(shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]):
    began = datetime.now(UTC) - timedelta(minutes=5)
    app.stack = replace(app.stack, running=True, workers=1, started=began, memory_bytes=75_400_000)
    run(shell, "%nbflow status")
    told = "The local server is running: 1 worker, up for 5 min, 75 MB of memory, in /home/me/project/.nbflow/env.\n"
    assert capsys.readouterr().out == told
    app.stack = replace(app.stack, trouble="the workers end again and again")
    run(shell, "%nbflow status")
    assert "the workers end again and again" in capsys.readouterr().out


def test_each_word_asks_the_app(shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]):
    run(shell, "%nbflow status")
    assert len(run(shell, "%nbflow runs etl")) == 3
    assert run(shell, "%nbflow show 77").id == IDS[2]
    assert run(shell, "%nbflow logs 77") == "the logs"
    assert run(shell, "%nbflow resume 77") == (IDS[2], False)
    assert run(shell, "%nbflow resume 77 --changed") == (IDS[2], True)
    run(shell, "%nbflow workers 3")
    run(shell, "%nbflow cancel 77 it was wrong")
    run(shell, "%nbflow down")
    assert app.asked == [("status",), ("workers", 3), ("cancel", IDS[2], "it was wrong")]
    said = capsys.readouterr().out
    assert "3 local workers." in said
    assert "Run 77777777 is canceled." in said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("%nbflow statsu", "Did you mean 'status'?"),
        ("%nbflow workers", "Usage: %nbflow workers N"),
        ("%nbflow workers many", "whole number, not 'many'"),
        ("%nbflow workers -1", "whole number, not '-1'"),
        ("%nbflow show", "%nbflow show needs RUN."),
        ("%nbflow show a b", "does not take 'b'"),
        ("%nbflow status now", "does not take 'now'"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(
    shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str], line: str, told: str
):
    assert not shell.run_cell(line).success
    said = "".join(capsys.readouterr())
    assert told in said
    assert "Traceback" not in said


def test_an_unknown_run_is_told_in_a_sentence(
    shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]
):
    assert not shell.run_cell("%nbflow show 99").success
    said = "".join(capsys.readouterr())
    assert "UnknownRun: No run begins with '99'." in said
    assert "Traceback" not in said


# -- completion -------------------------------------------------------------------------------------------------------


def test_words_flows_and_runs_are_completed(shell: InteractiveShell, app: FakeApp):
    app.is_connected = True
    words = ["cancel", "down", "logs", "resume", "runs", "show", "status", "why", "workers"]
    assert complete(shell, "%nbflow ") == words
    assert complete(shell, "%nbflow s") == ["show", "status"]
    assert complete(shell, "x = %nbflow runs e") == ["etl"]
    assert complete(shell, "%nbflow show ") == ["3f2a91c07d5e4", "3f2a91c07d5ef", "77777777"]
    assert complete(shell, "%nbflow cancel 7") == ["77777777"]
    assert not set(complete(shell, "%nbflow show 77777777 ")) & {"status", "77777777"}


def test_completing_starts_nothing_and_never_fails(shell: InteractiveShell, app: FakeApp):
    """Before anything was asked of the server, and when it does not answer, no run is offered."""
    assert "77777777" not in complete(shell, "%nbflow show ")
    app.is_connected = app.fails = True
    assert "77777777" not in complete(shell, "%nbflow show ")


def test_a_run_is_offered_with_what_it_is(shell: InteractiveShell, app: FakeApp):
    """Eight letters of an id say nothing; a local server that runs already is asked, though no cell has used it yet."""
    app.stack = replace(app.stack, running=True)
    with provisionalcompleter():
        offered = list(shell.Completer.completions("%nbflow show 7", 14))
    assert [(one.text, one.type) for one in offered] == [("77777777", "etl\u00a0completed")]


def test_other_lines_are_completed_as_ever(shell: InteractiveShell, app: FakeApp):
    run(shell, "some_name = 1")
    assert complete(shell, "some_na") == ["some_name"]


# -- cells ------------------------------------------------------------------------------------------------------------


def test_plain_ipython_has_no_cells(shell: InteractiveShell, app: FakeApp):
    assert cells.locate_cell() is None
    assert registry.here() is None


@pytest.mark.parametrize(
    ("parent", "cell"),
    [
        ({"header": {"msg_id": "m1"}, "metadata": {"cellId": "c1"}}, CellId("c1", "m1")),
        ({"header": {"msg_id": "m1"}, "metadata": {}}, None),
        ({"header": {}, "metadata": {"cellId": "c1"}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_cell_is_that_of_the_execute_request(
    shell: InteractiveShell, app: FakeApp, parent: Any, cell: CellId | None
):
    """The parent of all that a cell does is its request; nbval's has no cell id."""
    object.__setattr__(shell, "get_parent", lambda: parent)
    assert registry.here() == cell


def test_a_cell_that_defines_no_step_any_more_takes_its_steps_with_it(
    shell: InteractiveShell, app: FakeApp, monkeypatch: pytest.MonkeyPatch
):
    """The shell tells the registry when a cell has come to its end; one that failed has not."""
    ended: list[CellId] = []
    monkeypatch.setattr(registry, "end_cell", ended.append)
    object.__setattr__(shell, "get_parent", lambda: {"header": {"msg_id": "m1"}, "metadata": {"cellId": "c1"}})
    shell.run_cell("1 / 0")
    assert ended == []
    run(shell, "pass")
    assert ended == [CellId("c1", "m1")]


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_of_nbflow_is_one_block(shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]):
    shell.user_ns["fail"] = raising(UnknownRun("No run 'x'.", hint="See %nbflow runs."))
    assert not shell.run_cell("fail()").success
    assert "".join(capsys.readouterr()).strip() == "UnknownRun: No run 'x'.\n→ See %nbflow runs."


def test_a_failed_step_points_at_the_line_in_its_cell(
    shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]
):
    shell.user_ns["fail"] = raising(FAILURE)
    assert not shell.run_cell("fail()").success
    assert "".join(capsys.readouterr()).strip().splitlines() == [
        "StepFailure: Step 'parse' failed in task parse[7].",
        "  line 4 of the cell of 'parse', in parse",
        "    return int(text)",
        "  tools.py, line 9, in convert",
        "  ❱ return float(text)",
        "  ValueError: could not convert string to float: 'x'",
        "→ Fix it and resume the run.",
        "%tb shows the whole traceback.",
    ]


def test_the_whole_traceback_can_still_be_had(
    shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]
):
    shell.user_ns["fail"] = raising(FAILURE)
    shell.run_cell("fail()")
    capsys.readouterr()
    shell.run_cell("%tb")
    said = "".join(capsys.readouterr())
    assert "raw_decode" in said
    assert "fail()" in said
    assert pickle.loads(pickle.dumps(FAILURE)).traceback == TRACEBACK


def test_other_errors_are_shown_as_ever(shell: InteractiveShell, app: FakeApp, capsys: pytest.CaptureFixture[str]):
    shell.run_cell("1 / 0")
    assert "Traceback" in "".join(capsys.readouterr())


def test_a_handler_of_somebody_else_keeps_its_errors(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    seen: list[str] = []

    def theirs(_shell: object, _kind: type, error: BaseException, _tb: object, tb_offset: int | None = None) -> None:
        seen.append(repr(error))

    shell.set_custom_exc((KeyError,), theirs)
    load_ipython_extension(shell)
    shell.run_cell("raise KeyError('a')")
    unload_ipython_extension(shell)
    shell.run_cell("raise KeyError('b')")
    assert seen == ["KeyError('a')", "KeyError('b')"]


def test_an_error_cannot_steer_the_terminal():
    rows = short_error(UnknownRun("No run \x1b[2J\rgone."), colours=False)
    assert rows == ["UnknownRun: No run \\x1b[2J\\rgone."]
    for evil in ("\x1b]0;owned\x07", "\x9b31m"):
        trace = f'Traceback (most recent call last):\n  File "<cell>", line 1, in {evil}\n    {evil}\nE: {evil}\n'
        told = short_error(
            StepFailure(f"{evil} failed", task=evil, error=f"E: {evil}", traceback=trace, hint=evil), colours=False
        )
        assert "".join(told).isprintable()


def test_an_internal_error_asks_for_its_traceback():
    assert "%tb" in short_error(InternalError("Two ends for one run."), colours=False)[-1]


def test_colours_are_those_of_a_terminal_and_never_html():
    rows = "\n".join(short_error(FAILURE))
    assert "\x1b[31;1mStepFailure\x1b[0m" in rows
    assert "<" not in rows


def raising(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail
