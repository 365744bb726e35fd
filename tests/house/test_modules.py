"""Each module says what it is, what it offers, and has a name that says something."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

from tests.house.source import PythonFile, lua_files, python_files

MODULES = python_files("nbflow")
CODE = [file for file in MODULES if not file.name.endswith(("/__init__.py", "/__main__.py"))]
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


def by_name(file: PythonFile) -> str:
    return file.name


@pytest.mark.parametrize("file", MODULES, ids=by_name)
def test_a_module_has_a_docstring(file: PythonFile) -> None:
    assert ast.get_docstring(file.tree), f"{file.name} does not say what it is and what it must not do."


@pytest.mark.parametrize("file", CODE, ids=by_name)
def test_a_module_lists_what_it_offers(file: PythonFile) -> None:
    """Law: `__all__` is a literal list of strings, and each name in it is defined at the top of the module."""
    names = [
        ast.literal_eval(node.value)
        for node in file.tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    assert len(names) == 1, f"{file.name} has no __all__."
    missing = set(names[0]) - _defined(file.tree)
    assert not missing, f"{file.name} lists {missing} in __all__ but does not define it."


@pytest.mark.parametrize("file", CODE, ids=by_name)
def test_annotations_are_not_evaluated(file: PythonFile) -> None:
    futures = [alias.name for node in file.tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
               for alias in node.names]  # fmt: skip
    assert "annotations" in futures, f"{file.name} lacks `from __future__ import annotations`."


@pytest.mark.parametrize(
    "file", [f for f in MODULES if f.name.count("/") > 1 and f.name.endswith("/__init__.py")], ids=by_name
)
def test_a_package_is_a_docstring_only(file: PythonFile) -> None:
    assert len(file.tree.body) == 1, f"{file.name} may hold a docstring only: names are imported from their modules."


@pytest.mark.parametrize("file", MODULES, ids=by_name)
def test_names_of_modules_say_something(file: PythonFile) -> None:
    words = set(file.name.removesuffix(".py").replace("_", "/").split("/"))
    assert not words & BANNED_NAMES, f"{file.name}: name the one noun that the module is about."


@pytest.mark.parametrize("path", [p for p in lua_files() if p.stem != "prelude"], ids=lambda path: path.name)
def test_a_script_begins_with_its_contract(path: Path) -> None:
    """Law: `--! <name>: what it does`, then `--! keys:`, `--! args:` and `--! reply:`, before the first line of code."""
    header = list(itertools.takewhile(lambda line: line.startswith("--"), path.read_text("utf-8").splitlines()))
    assert header, f"{path.name} begins with no contract."
    assert header[0].startswith(f"--! {path.stem}: "), f"{path.name}: the header begins with its name and what it does."
    for start in ("--! keys:", "--! args:", "--! reply:"):
        assert any(line.startswith(start) for line in header), f"{path.name}: the header lacks `{start}`."


def _defined(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.alias():
                found.add((node.asname or node.name).partition(".")[0])
            case _:
                pass
    return found
