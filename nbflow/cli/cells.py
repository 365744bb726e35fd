"""The text of a notebook or script as pieces to be run one after the other, without what only Jupyter understands.

Reads and cuts; runs nothing. Lines keep their numbers, so that tracebacks point at the lines that the author sees.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from nbflow.errors import CommandRefused

__all__ = ["SKIP_TAG", "Cell", "notebook_cells", "script_tree", "without_magics"]

SKIP_TAG = "nbflow-skip"
_FAILS_TAG = "raises-exception"  # Jupyter's own: the cell is meant to fail

_MAGIC = re.compile(r"^\s*(?:[%!?]|[\w.,\s\[\]'\"]+=\s*[%!])|\?\s*$")
_ASSIGNED = re.compile(r"\s*([^=%!?]+?)\s*=\s*[%!]")
_PYTHON_INSIDE = re.compile(r"%%(?:time|capture|prun)\b")


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell. `name` is what tracebacks call it: `etl.ipynb#cell-3`, the third code cell."""

    name: str
    text: str
    is_left_out: bool = False
    may_fail: bool = False


def notebook_cells(path: Path) -> list[Cell]:
    """The code cells of a notebook, magics taken out. CommandRefused if it is no notebook in Python."""
    notebook = _read(path)
    language = _at(notebook, "metadata", "kernelspec", "language") or _at(notebook, "metadata", "language_info", "name")
    if isinstance(language, str) and language.lower() != "python":
        raise CommandRefused(f"{path} is a notebook in {language}.", hint="Give a notebook in Python.")
    code = [cell for cell in cast("list[Any]", notebook["cells"]) if _at(cell, "cell_type") == "code"]
    return [_cell(f"{path.name}#cell-{number}", cell) for number, cell in enumerate(code, 1)]


def script_tree(path: Path) -> ast.Module:
    """The syntax tree of a script, without what stands below `if __name__ == "__main__":`. That is what the script
    does as a program (parse its arguments, start its flow); what it declares stands above.

    SyntaxError as Python raises it; CommandRefused if it is no text.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CommandRefused(
            f"{path} cannot be read: {error.strerror}.", hint="Give a file that you may read."
        ) from error
    tree = ast.parse(text, str(path))
    tree.body = [_without_program(node) for node in tree.body]
    return tree


def without_magics(text: str) -> str:
    """The cell without lines of magics (`%load_ext …`), of the shell (`!pip …`) and of help (`flow?`); empty if all of
    it is for a magic (`%%bash`). Only a line that Python refuses is taken for one: a string may hold anything."""
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].startswith("%%"):
        if not _PYTHON_INSIDE.match(lines[first]):
            return ""
        lines[first] = "pass"
    for _ in range(len(lines)):
        at = _refused_line(lines)
        if at is None or not _MAGIC.search(lines[at]):
            break
        _blank(lines, at)
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandRefused(
            f"{path} cannot be read: {error.strerror}.", hint="Give a file that you may read."
        ) from error
    except ValueError as error:
        raise CommandRefused(
            f"{path} is no notebook: it holds no JSON.", hint="Open and save it in Jupyter."
        ) from error
    if not isinstance(_at(notebook, "cells"), list):
        raise CommandRefused(
            f"{path} is no notebook of format 4.", hint="Open and save it in Jupyter, which writes the present format."
        )
    return cast("dict[str, Any]", notebook)


def _cell(name: str, cell: Any) -> Cell:
    source, tags = _at(cell, "source"), cast("list[str]", _at(cell, "metadata", "tags") or [])
    text = "".join(cast("list[str]", source)) if isinstance(source, list) else str(source or "")
    return Cell(name, without_magics(text), SKIP_TAG in tags, _FAILS_TAG in tags)


def _at(node: Any, *names: str) -> Any:
    for name in names:
        node = cast("dict[str, Any]", node).get(name) if isinstance(node, dict) else None
    return node


def _refused_line(lines: list[str]) -> int | None:
    """The line of the first error of syntax; None if there is none (or none with a line)."""
    try:
        compile("\n".join(lines) + "\n", "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        return None if error.lineno is None or not 0 < error.lineno <= len(lines) else error.lineno - 1
    except ValueError:  # a NUL character
        return None
    return None


def _blank(lines: list[str], at: int) -> None:
    """Put nothing in the place of a magic, and of the lines that its backslashes go on to. What was to be assigned is None."""
    line = lines[at]
    indent, target = line[: len(line) - len(line.lstrip())], _ASSIGNED.match(line)
    goes_on = line.rstrip().endswith("\\")
    lines[at] = f"{indent}{target[1]} = None" if target else f"{indent}pass"
    while goes_on and (at := at + 1) < len(lines):
        goes_on = lines[at].rstrip().endswith("\\")
        lines[at] = ""


def _without_program(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.If) and _asks_for_main(node.test):
        node.body = [ast.copy_location(ast.Pass(), node)]
    return node


def _asks_for_main(test: ast.expr) -> bool:
    """Whether it is `__name__ == "__main__"`, either way round."""
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq) or len(test.ops) > 1:
        return False
    sides = list(_sides(test))
    return "__name__" in sides and "__main__" in sides


def _sides(test: ast.Compare) -> Iterator[str]:
    for side in (test.left, *test.comparators):
        if isinstance(side, ast.Name):
            yield side.id
        elif isinstance(side, ast.Constant):
            yield str(side.value)
