"""Links parts and a body into one script that is cheap to enter.

Lua 5.1 makes all closures of a chunk anew whenever it runs, and for each local that a closure captures it walks the list of
all captured ones (`luaF_findupval` in lfunc.c). With 150 functions as locals of one chunk, to enter a script costs more
than what most of them do; nor may a chunk have more than 200 locals. So top-level functions become fields of one table F,
and the other top-level locals of parts move out, into a function around: what is captured from there is not searched for.

    local stops                                  local F, P, stops = {}, "nbflow"
    local function is_stopped(queue) … end  →    return (function()
    if is_stopped(queue) then …                  function F.is_stopped(queue) … end
                                                 if F.is_stopped(queue) then … end)()

Lines keep their numbers up to one, for the messages of errors. No local may have the name of a top-level function: it is an
error of syntax, or found by `shadows`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Linked", "shadows"]

_FUNCTION = re.compile(r"^local function (\w+)", re.MULTILINE)
_LOCAL = re.compile(r"^local (?!function\b)(\w+(?: *, *\w+)*)( *=)?", re.MULTILINE)
_TOKEN = re.compile(r"""--[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\.\.|[.:]\w+|\w+(?=\s*=[^=])|(?P<name>\w+)""")
_BOUND = re.compile(r"\blocal (?!function\b)([\w, ]+)|\bfor ([\w, ]+?) (?:in|=)|\bfunction\b[^(\n]*\(([\w, ]*)\)")
_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class Linked:
    """A script but for its constants."""

    outer: tuple[str, ...]
    inner: str

    @classmethod
    def of(cls, parts: str, body: str) -> Linked:
        names = set(_FUNCTION.findall(f"{parts}\n{body}"))
        outer = [name for found in _LOCAL.finditer(parts) for name in re.split(" *, *", found[1])]
        moved = _LOCAL.sub(lambda found: found[1] + found[2] if found[2] else "", parts)
        return cls(tuple(outer), _with_table(names, f"{moved}\n{body}"))

    def text(self, first: str, constants: dict[str, str]) -> str:
        """The whole. `first` is its first line; `constants` are expressions by name."""
        head = f"local {', '.join(['F', *constants, *self.outer])} = {', '.join(['{}', *constants.values()])}"
        return f"{first}\n{head}\nreturn (function()\n{self.inner}\nend)()"


def shadows(parts: str, body: str) -> set[str]:
    """Functions whose name a local has too. There must be none."""
    text = f"{parts}\n{body}"
    names = set(_FUNCTION.findall(text))
    bound = {
        name
        for found in _BOUND.finditer(_COMMENT.sub("", text))
        for name in re.findall(r"\w+", " ".join(filter(None, found.groups())))
    }
    return names & bound


def _with_table(names: set[str], text: str) -> str:
    return _TOKEN.sub(
        lambda found: f"F.{found[0]}" if found["name"] in names else found[0], _FUNCTION.sub(r"function \1", text)
    )
