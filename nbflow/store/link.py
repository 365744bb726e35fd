"""Links parts and a body into one script that is cheap to enter.

Lua 5.1 makes all closures of a chunk anew whenever it runs, and for each local that a closure captures it walks the list of
all captured ones (`luaF_findupval` in lfunc.c). With 150 functions as locals of one chunk, to enter a script costs more
than what most of them do; nor may a chunk have more than 200 locals. So top-level functions become fields of one table F,
and the other top-level locals of parts move out, into a function around: what is captured from there is not searched for.
And of the functions of parts only those that are called all the time (`hot`) are made at once, the others when the first of
them is looked for.

    local stops                                  local F, RARE, P, stops = {}, {}, "nbflow"
    local function is_stopped(queue) … end       RARE.__index = function(t, name) … function F.resume(queue) … end … end
    local function resume(queue) … end      →    return (function()
    if is_stopped(queue) then …                  function F.is_stopped(queue) … end
                                                 if F.is_stopped(queue) then … end)()

What is made at once keeps the numbers of its lines up to a constant, for the messages of errors. No local may have the name
of a top-level function: it is an error of syntax, or found by `shadows`. A table of a part's own functions is
`local limits = {…}`; a field of it that may be missing is given there, or to look for it makes all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Linked", "functions", "shadows"]

_FUNCTION = re.compile(r"^local function (\w+)", re.MULTILINE)
_BLOCK = re.compile(r"^(?:local )?function ([\w.]+)\(.*\n(?:(?:[ \t].*)?\n(?:(?:[ \t].*)?\n)*end\b.*\n)?", re.MULTILINE)
_TABLE = re.compile(r"^(local \w+ *= *)(\{.*\})(?= *(?:--.*)?$)", re.MULTILINE)
_LOCAL = re.compile(r"^local (?!function\b)(\w+(?: *, *\w+)*)( *=)?", re.MULTILINE)
_TOKEN = re.compile(r"""--[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\.\.|[.:]\w+|\w+(?=\s*=[^=])|(?P<name>\w+)""")
_BOUND = re.compile(r"\blocal (?!function\b)([\w, ]+)|\bfor ([\w, ]+?) (?:in|=)|\bfunction\b[^(\n]*\(([\w, ]*)\)")
_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class Linked:
    """A script but for its constants."""

    outer: tuple[str, ...]
    rare: str
    inner: str

    @classmethod
    def of(cls, parts: str, body: str, hot: Collection[str]) -> Linked:
        """`hot`: the functions of parts that are made at once; of a table's, `limits.take`."""
        names = set(_FUNCTION.findall(f"{parts}\n{body}"))
        kept, rare = _apart(f"{parts}\n", hot)
        outer = [name for found in _LOCAL.finditer(kept) for name in re.split(" *, *", found[1])]
        moved = _LOCAL.sub(lambda found: found[1] + found[2] if found[2] else "", kept)
        return cls(tuple(outer), _with_table(names, rare), _with_table(names, f"{moved}{body}"))

    def text(self, first: str, constants: dict[str, str]) -> str:
        """The whole. `first` is its first line; `constants` are expressions by name."""
        outer, given = ["F", "RARE", *constants, *self.outer], ["{}", "{}", *constants.values()]
        return (
            f"{first}\nlocal {', '.join(outer)} = {', '.join(given)}\n"
            f"RARE.__index = function(t, name)\nRARE.__index = nil\n{self.rare}return t[name]\nend\nsetmetatable(F, RARE)\n"
            f"return (function()\n{self.inner}\nend)()"
        )


def functions(parts: str) -> list[str]:
    """The top-level functions of parts."""
    return _BLOCK.findall(f"{parts}\n")


def _apart(parts: str, hot: Collection[str]) -> tuple[str, str]:
    """Parts without the functions that are rare, and these."""
    rare = [found for found in _BLOCK.finditer(parts) if found[1] not in hot]
    tables = {found[1].partition(".")[0] for found in rare if "." in found[1]}

    def kept(found: re.Match[str]) -> str:
        return found[0] if found[1] in hot else "\n" * found[0].count("\n")

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}setmetatable({found[2]}, RARE)" if found[1].split()[-2] in tables else found[0]

    text = _TABLE.sub(made, _BLOCK.sub(kept, parts))
    return text, "".join(found[0] for found in rare)


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
