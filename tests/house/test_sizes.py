"""Small files, small functions, shallow blocks, few parameters; the exceptions are listed and may only shrink."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.house.source import ROOT, body_lines, functions, nesting, positional, python_files

LIMITS = {"file_lines": 400, "function_lines": 40, "nesting": 3, "positional": 5}
FOLDERS = ("nbflow", "tests", "benchmarks")
EXCEPTIONS: dict[str, dict[str, int]] = tomllib.loads((Path(__file__).parent / "exceptions.toml").read_text("utf-8"))


def file_lines() -> dict[str, int]:
    sizes = {file.name: file.lines for file in python_files(*FOLDERS)}
    others = [
        path for kind in ("nbflow/**/*.lua", "widgets/src/**/*.ts", "widgets/test/**/*.ts") for path in ROOT.glob(kind)
    ]
    return sizes | {path.relative_to(ROOT).as_posix(): path.read_text("utf-8").count("\n") for path in others}


def per_function(measure: Callable[[Any], int]) -> dict[str, int]:
    return {
        f"{file.name}::{name}": measure(function)
        for file in python_files(*FOLDERS)
        for name, function in functions(file)
    }


MEASURES: dict[str, Callable[[], dict[str, int]]] = {
    "file_lines": file_lines,
    "function_lines": lambda: per_function(body_lines),
    "nesting": lambda: per_function(nesting),
    "positional": lambda: per_function(positional),
}


@pytest.mark.parametrize("rule", LIMITS)
def test_nothing_is_larger_than_the_house_allows(rule: str) -> None:
    """Law: each size is at most the limit, or at most what its exception says."""
    allowed = EXCEPTIONS[rule]
    too_large = {
        place: size for place, size in MEASURES[rule]().items() if size > max(LIMITS[rule], allowed.get(place, 0))
    }
    assert not too_large, f"{rule}, limit {LIMITS[rule]}: split these: {too_large}"


@pytest.mark.parametrize("rule", LIMITS)
def test_exceptions_only_shrink(rule: str) -> None:
    """Law: an exception states the very size that is there, and goes when the limit holds."""
    sizes = MEASURES[rule]()
    stale = {
        place: (listed, sizes.get(place))
        for place, listed in EXCEPTIONS[rule].items()
        if sizes.get(place, 0) != listed or listed <= LIMITS[rule]
    }
    assert not stale, f"{rule}: lower or remove in exceptions.toml (listed, actual): {stale}"
