"""What commands print: sentences, tables and JSON, none of which can steer the terminal.

Names, payloads and logs come from strangers: control characters and what turns the direction of text are shown as escapes
(`\\x1b`), and nothing of theirs is read as markup. rich is loaded when the first table is printed.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "COLOURS",
    "block",
    "console",
    "document",
    "grid",
    "json_line",
    "moment",
    "plain",
    "properties",
    "say",
    "table",
    "warn",
]

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
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: object) -> str:
    """One line: what would steer the terminal or break the line is shown as an escape."""
    spelled = str(text)
    if spelled.isascii() and spelled.isprintable():
        return spelled
    return "".join(map(_harmless, spelled))


def block(text: object) -> str:
    """The same for a text of several lines, which it keeps."""
    return "\n".join(plain(line.expandtabs(4)) for line in str(text).split("\n"))


def say(text: str = "") -> None:
    print(text, flush=True)


def warn(text: str) -> None:
    """To stderr: it is not what was asked for."""
    print(text, file=sys.stderr, flush=True)


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


def _harmless(char: str) -> str:
    unsafe = char in _TURNING or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
    return char.encode("unicode_escape").decode("ascii") if unsafe else char
