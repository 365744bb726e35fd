"""The habits: one command for tests wherever it is written, and nothing in the tree that belongs to one machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.house.source import ROOT

TEST_COMMAND = ".venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest -n auto --dist loadfile"
TARGETS = ("setup", "check", "test", "bench", "notebooks", "widgets", "docs", "dev", "clean", "help")
TEXT = {".py", ".lua", ".ts", ".md", ".toml", ".ipynb", ".yaml", ".yml", ".html", ".css"}
SKIPPED = {".git", ".venv", ".nbflow", "node_modules", "dist", "build"}


def test_make_and_ci_run_the_same_tests() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("$(BIN)", ".venv/bin")
    assert TEST_COMMAND in makefile
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_readme_names_the_test_command() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("README.md is not written yet")
    assert TEST_COMMAND in readme.read_text("utf-8")


def test_make_has_the_targets_of_the_house() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert [name for name in TARGETS if not re.search(rf"^{name}:.*## \S", makefile, re.MULTILINE)] == []


def test_each_rule_that_is_off_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text("utf-8").split("ignore = [\n", 1)[1].split("]\n", 1)[0].splitlines()
    assert all(re.fullmatch(r'    "[A-Z]+\d*", +# \S.*', line) for line in lines), lines


def test_the_type_marker_is_there_and_the_version_has_its_entry() -> None:
    """Law: users' type checkers see our types, and the changelog tells what this version brings."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert (ROOT / "nbflow" / "py.typed").exists()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_no_file_names_a_place_on_one_machine() -> None:
    """Law: neither the place of this checkout nor this user's home is written anywhere; they help nobody else."""
    private = [f"{place}/" for place in (ROOT, Path.home()) if len(place.parts) > 1]
    found = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*")
        if path.suffix in TEXT and not SKIPPED & set(path.relative_to(ROOT).parts) and _names_one_of(path, private)
    ]
    assert found == []


def _names_one_of(path: Path, places: list[str]) -> bool:
    text = path.read_text("utf-8")
    return any(place in text for place in places)
