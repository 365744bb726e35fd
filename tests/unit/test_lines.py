"""What a traceback's text points at: the author's own line, wherever the worker and its packages lie."""

from __future__ import annotations

import pytest

from nbflow.model.events import Event
from nbflow.model.view import View, reduce
from nbflow.watch.lines import user_lines
from nbflow.watch.results import failure_of_run

OWN = "/home/me/etl.py"


def traceback_through(*files: str) -> str:
    frames = "".join(f'  File "{file}", line {number}, in f\n    g()\n' for number, file in enumerate(files, 1))
    return f"Traceback (most recent call last):\n{frames}ValueError: bad\n"


@pytest.mark.parametrize(
    "foreign",
    [
        "/usr/lib/python3.11/json/decoder.py",
        "/usr/lib64/python3.12/json/decoder.py",
        "/opt/venv/lib/python3.12/site-packages/pandas/core/frame.py",
        r"C:\venv\Lib\site-packages\pandas\core\frame.py",
        "<frozen importlib._bootstrap>",
        "/home/me/nbflow/nbflow/worker/context.py",
        "/home/me/nbflow/nbflow/testing/port.py",
    ],
)
def test_a_failure_points_at_the_authors_line_and_not_into_a_library(foreign: str) -> None:
    text = traceback_through(OWN, foreign)
    assert [line.file for line in user_lines(text)] == [OWN]
    view = View("r1", "etl")
    reduce(view, Event("1-0", "step.queued", "r1", "etl", "parse", 1, {}))
    reduce(view, Event("2-0", "step.failed", "r1", "etl", "parse", 1, {"error": "ValueError: bad", "traceback": text}))
    reduce(view, Event("3-0", "flow.failed", "r1", "etl", data={"failedStep": "parse"}))
    assert failure_of_run(view).message == "Step 'parse' failed at line 1 of etl.py: ValueError: bad"


@pytest.mark.parametrize("file", ["/tmp/ipykernel_812/4.py", r"C:\Temp\ipykernel_812\4.py", "<ipython-input-3-a>"])
def test_a_line_of_a_cell_is_told_as_one(file: str) -> None:
    (line,) = user_lines(traceback_through(file))
    assert line.is_in_cell


@pytest.mark.parametrize("file", [OWN, r"C:\me\etl.py"])
def test_a_file_is_named_without_its_folders(file: str) -> None:
    (line,) = user_lines(traceback_through(file))
    assert (line.file_name, line.is_in_cell) == ("etl.py", False)


def test_where_no_line_is_the_users_the_last_one_is_shown():
    text = 'Traceback (most recent call last):\n  File "/usr/lib/python3.11/json/x.py", line 3, in f\n    g()\nKeyError: 1\n'
    assert [(line.file, line.line) for line in user_lines(text)] == [("/usr/lib/python3.11/json/x.py", 3)]
    assert user_lines("") == []
