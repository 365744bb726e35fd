"""What the house rules are checked on: the project's source files, parsed once."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "ROOT",
    "SOURCE",
    "PythonFile",
    "body_lines",
    "functions",
    "lua_files",
    "nesting",
    "positional",
    "python_files",
]

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "nbflow"
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.Match)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class PythonFile:
    """One file: its name from the root, its text and its tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")


@cache
def python_files(*folders: str) -> tuple[PythonFile, ...]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(_read(path) for path in paths)


@cache
def lua_files() -> tuple[Path, ...]:
    return tuple(sorted((SOURCE / "store" / "lua").glob("*.lua")))


def functions(file: PythonFile) -> list[tuple[str, Function]]:
    """Each function with its dotted name in the file, the nested ones too."""
    found: list[tuple[str, Function]] = []
    _collect(file.tree, "", found)
    return found


def body_lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring: prose is not to be cut short."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return lines
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)


def positional(function: Function) -> int:
    """Parameters that can be given by position, but for `self` and `cls`."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"], ["mcs"]))


def nesting(function: Function) -> int:
    """How deep its blocks lie in one another; `elif` is no deeper than its `if`, a function within starts anew."""
    return max((_depth(statement) for statement in function.body), default=0)


def _depth(node: ast.stmt | ast.ExceptHandler | ast.match_case) -> int:
    if isinstance(node, Function | ast.ClassDef):
        return 0
    below = [_below(node, child) for child in ast.iter_child_nodes(node) if isinstance(child, _PARTS)]
    return max(below, default=0) + isinstance(node, _BLOCKS)


_PARTS = (ast.stmt, ast.ExceptHandler, ast.match_case)


def _below(parent: ast.AST, child: ast.stmt | ast.ExceptHandler | ast.match_case) -> int:
    depth = _depth(child)
    is_elif = isinstance(parent, ast.If) and isinstance(child, ast.If) and parent.orelse == [child]
    return depth - 1 if is_elif else depth


def _collect(node: ast.AST, prefix: str, found: list[tuple[str, Function]]) -> None:
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, Function | ast.ClassDef):
            name = f"{prefix}.{child.name}" if prefix else child.name
        if isinstance(child, Function):
            found.append((name, child))
        _collect(child, name, found)


def _read(path: Path) -> PythonFile:
    text = path.read_text(encoding="utf-8")
    return PythonFile(path.relative_to(ROOT).as_posix(), text, ast.parse(text))
