"""What commands print: sentences, tables and JSON, none of which can steer the terminal.

Names, payloads and logs come from strangers: control characters and what turns the direction of text are shown as escapes
(`\\x1b`), and nothing of theirs is read as markup. rich is loaded when the first table is printed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from nbflow.model.plain import block, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "COLOURS",
    "Json",
    "block",
    "console",
    "document",
    "grid",
    "in_commands",
    "json_line",
    "moment",
    "plain",
    "properties",
    "say",
    "table",
    "warn",
]

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]

COLOURS = {
    "completed": "green",
    "failed": "red",
    "canceled": "yellow",
    "running": "cyan",
    "retrying": "yellow",
    "awaiting": "magenta",
    "skipped": "dim",
    "pending": "dim",
    "queued": "dim",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "error": "red",
    "warning": "yellow",
}
"""The colours of words for states; a word that is not here has none."""

_UNWRAPPED = 100_000
_COMMANDS = {
    "nbflow.runs()": "`nbflow runs`",
    "flow.start(...)": "`nbflow start FLOW --from X`",
    "flow.check()": "`nbflow check X`",
    "run.wait()": "`nbflow events RUN --follow`",
    "run.events": "`nbflow events RUN`",
    "run.logs": "`nbflow logs RUN`",
    "run.tasks": "`nbflow show RUN`",
    "run['step']": "`nbflow show RUN`",
    "run.attempts": "`nbflow show RUN --json`",
    "run.resume()": "`nbflow resume RUN`",
    "run.cancel()": "`nbflow cancel RUN`",
    "run.fork(at=…)": "`nbflow fork RUN --at EVENT`",
    "run.export(…)": "`nbflow export RUN`",
    "nbflow.schedules()": "`nbflow schedule list`",
    "flow.on(...)": "`nbflow trigger set NAME FLOW`",
    "flow.on(Trigger(...))": "`nbflow trigger set NAME FLOW`",
    "its resume()": "`nbflow trigger resume NAME`",
    "flow.publish(), or `nbflow publish X`": "`nbflow publish X`",
}
"""What hints say in Python, as a command says it."""
_WITH_NAMES = (
    (r"nbflow\.emit\('([^']*)', payload\)", r"`nbflow emit \1 JSON`"),
    (r"run\.why\('([^']*)'\)", r"`nbflow why RUN '\1'`"),
    (r"run\.resolve\('([^']*)', \.\.\.\)", r"`nbflow resolve RUN '\1' --input JSON`"),
    (r"nbflow\.run\('[^']*'\)\.cancel\(\), or (?=`)", r""),
    (r"nbflow\.run\('([^']*)'\)(?!\.\w)", r"`nbflow show \1`"),
)
"""The same of calls that name something."""
_PYTHON = re.compile("|".join(rf"(?<![\w.`]){re.escape(said)}(?![\w(`])" for said in sorted(_COMMANDS, reverse=True)))


def in_commands(hint: str) -> str:
    """A hint in the words of the command line."""
    for call, said in _WITH_NAMES:
        hint = re.sub(rf"(?<![\w.`(]){call}", said, hint)
    return _PYTHON.sub(lambda found: _COMMANDS[found[0]], hint)


def say(text: str = "") -> None:
    print(block(text), flush=True)


def warn(text: str) -> None:
    """To stderr: it is not what was asked for."""
    print(block(text), file=sys.stderr, flush=True)


def document(value: object) -> None:
    """One JSON document on stdout. Only ASCII, so that a terminal may show it."""
    print(json.dumps(value, indent=2, default=str), flush=True)


def json_line(value: object) -> None:
    print(json.dumps(value, separators=(",", ":"), default=str), flush=True)


def moment(ms: float | None) -> str:
    """A time for people, in their zone."""
    return "" if ms is None else datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def console(stream: TextIO | None = None) -> Console:
    """A console of rich that takes text as it is. What is no terminal gets whole lines, however long."""
    from rich.console import Console

    shown_on: TextIO = stream or sys.stdout
    width = None if shown_on.isatty() else _UNWRAPPED
    return Console(file=shown_on, markup=False, highlight=False, emoji=False, soft_wrap=False, width=width)


def grid(titles: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> Table:
    """A table without lines. Words for states have their colours; the columns in `right` are numbers."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(titles))
    numbers = set(right)
    for title in titles:
        made.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    for row in rows:
        cells = [plain("" if cell is None else cell) for cell in row]
        made.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in cells))
    return made


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> None:
    """Print a table on stdout; without rich's padding at the ends of lines where that would only be noise."""
    from io import StringIO

    made = grid(titles, rows, right=right)
    if sys.stdout.isatty():
        console().print(made)
        return
    out = StringIO()
    console(out).print(made)
    for line in out.getvalue().splitlines():
        print(line.rstrip())


def properties(rows: Mapping[str, Any]) -> None:
    """Names and values, one a line; what is empty is left out."""
    kept = [(name, value) for name, value in rows.items() if value not in (None, "", ())]
    table(("", ""), kept)
