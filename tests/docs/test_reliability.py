"""The page on reliability keeps its word: each test it names is collected, and each weakness and case has one, or says that
there is none yet."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
WEAKNESSES = [f"W-{number:02}" for number in range(1, 35)]


def _rows(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, without their heads."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [cells for cells in lines if cells[-1] != "shown by"]


@cache
def _collected(file: str) -> set[str]:
    """The tests of a file, as pytest finds them."""
    assert Path(file).name.startswith("test_"), f"{file} is not collected"
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 100


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_the_tests_that_the_page_names_are_there(file: str) -> None:
    assert {test for of, test in NAMED if of == file} <= _collected(file)


def test_every_weakness_has_a_line_and_a_test() -> None:
    rows = {cells[0]: cells for cells in _rows("Lessons") if cells[0].startswith("W-")}
    assert sorted(rows) == WEAKNESSES
    for number, (_, what, why, shown) in rows.items():
        assert what, number
        assert why, number
        assert "::" in shown or shown == "not yet", f"{number} is shown by nothing"


@pytest.mark.parametrize("heading", ["What is promised", "Lessons", "Bad input", "RQ's own tools"])
def test_every_line_is_shown_by_a_test(heading: str) -> None:
    rows = _rows(heading)
    assert len(rows) > 5
    bare = [cells[0] for cells in rows if "::" not in cells[-1] and cells[-1] != "not yet"]
    assert bare == []
