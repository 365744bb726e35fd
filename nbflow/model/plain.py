"""Text of strangers for a terminal: step names, keys, messages, errors and logs can say anything, and steer nothing.

Control characters, and what turns the direction of its neighbours, are shown as escapes (`\\x1b`). For XML and HTML there
is `picture/style.py`.
"""

from __future__ import annotations

import unicodedata

__all__ = ["block", "plain"]

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


def _harmless(char: str) -> str:
    unsafe = char in _TURNING or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
    return char.encode("unicode_escape").decode("ascii") if unsafe else char
