"""Digests of code that a comment, a docstring or the formatter does not change, and the source that a function has.

A function's node is found in its file (a notebook's cell is one, in `linecache`) by where its code object begins.
Code without source is digested from its bytecode.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import linecache
import types
from typing import Any

from nbflow.define.sources import ModuleSource

__all__ = ["function_syntax", "module_syntax", "source_text"]

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def source_text(path: str) -> str:
    """The text of the cell or file that code came from; empty if it is not known."""
    return "".join(linecache.getlines(path))


def function_syntax(function: types.FunctionType) -> str:
    """The digest of a function: its syntax tree without comments, docstrings and its own decorators."""
    code = function.__code__
    found = _find(source_text(code.co_filename), code)
    return _digest(_bytecode(code)) if found is None else found


@functools.lru_cache(maxsize=512)
def module_syntax(source: ModuleSource) -> str:
    """The digest of a module's syntax tree without comments and docstrings."""
    return _digest(ast.dump(_Bare().visit(ast.parse(source.text))))


def _find(text: str, code: types.CodeType) -> str | None:
    nodes = _definitions(text).get((code.co_name, code.co_firstlineno), ())
    fitting = [(_extent(node), digest) for node, digest in nodes if _fits(node, code)]
    return min(fitting)[1] if fitting else None  # the innermost of several lambdas on a line


@functools.lru_cache(maxsize=128)
def _definitions(text: str) -> dict[tuple[str, int], list[tuple[_Definition, str]]]:
    """The functions of a text by name and first line, which is that of the first decorator."""
    found: dict[tuple[str, int], list[tuple[_Definition, str]]] = {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return found
    for node in ast.walk(_Bare().visit(tree)):
        if isinstance(node, _Definition):
            name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
            found.setdefault((name, _first_line(node)), []).append((node, _digest(_dump(node))))
    return found


def _first_line(node: _Definition) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min(node.lineno, *(decorator.lineno for decorator in decorators)) if decorators else node.lineno


def _fits(node: _Definition, code: types.CodeType) -> bool:
    arguments = node.args
    names = [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    if names != list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]):
        return False
    if not isinstance(node, ast.Lambda):
        return True
    start, end = (node.body.lineno, node.body.col_offset), (node.body.end_lineno or 0, node.body.end_col_offset or 0)
    places = [(line, column) for line, _, column, stop in code.co_positions() if line and column is not None and stop]
    return all(start <= place <= end for place in places)


def _extent(node: _Definition) -> int:
    return len(ast.dump(node))


def _dump(node: _Definition) -> str:
    decorators: list[ast.expr] = []
    if not isinstance(node, ast.Lambda):
        decorators, node.decorator_list = node.decorator_list, []
    text = ast.dump(node)
    if not isinstance(node, ast.Lambda):
        node.decorator_list = decorators
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Bare(ast.NodeTransformer):
    """Takes the docstrings out of a tree."""

    def visit(self, node: ast.AST) -> Any:
        self.generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
        elif isinstance(node, ast.Constant):
            node.kind = None
        return node


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _bytecode(code: types.CodeType) -> str:
    constants = [_bytecode(item) if isinstance(item, types.CodeType) else _constant(item) for item in code.co_consts]
    return repr(
        (code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags, constants)
    )


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, _elements(value)))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, _elements(value)))})"
    return repr(value)


def _elements(values: Any) -> list[Any]:
    return list(values)
