"""The lines of the author's own that a traceback's text passes through: what an error points at.

Reads text that a worker wrote, perhaps on another machine and system; opens no file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Line", "user_lines"]

_FRAME = re.compile(r'^  File "(?P<file>.*?)", line (?P<line>\d+)(?:, in (?P<name>.*))?$')
_CELL = re.compile(r"ipykernel_\d+|<ipython-input|<stdin>|<cell|<string>")
_FOREIGN = re.compile(
    r"[/\\](site-packages|dist-packages|lib(64)?[/\\]python3[^/\\]*)[/\\]|<frozen "
    r"|[/\\]nbflow[/\\](model|testing|worker)[/\\]"  # these, of a checkout, lie in no such folder
)
MOST_LINES = 6


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the user's that the traceback passes through."""

    file: str
    line: int
    function: str
    source: str

    @property
    def is_in_cell(self) -> bool:
        return bool(_CELL.search(self.file))

    @property
    def file_name(self) -> str:
        """Without its folders, by the rules of either system: the worker's may be another one."""
        return re.split(r"[/\\]", self.file)[-1]


def user_lines(traceback: str) -> list[Line]:
    """The frames of the last traceback in the text that are neither Python's nor a package's, the innermost last; if all
    are, the innermost of them."""
    text = traceback.rsplit("Traceback (most recent call last):", 1)[-1].splitlines()
    lines: list[Line] = []
    for number, row in enumerate(text):
        found = _FRAME.match(row)
        if found:
            below = text[number + 1] if number + 1 < len(text) else ""
            source = below.strip() if below.startswith("    ") else ""
            lines.append(Line(found["file"], int(found["line"]), found["name"] or "", source))
    own = [line for line in lines if not _FOREIGN.search(line.file)]
    return (own or lines[-1:])[-MOST_LINES:]
