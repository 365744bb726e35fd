"""The reference names all that there is, and its generated parts are what the code says now."""

from __future__ import annotations

import re

import pytest

import nbflow
from nbflow.define.lint import findings
from nbflow.model.events import BOUNDED_TYPES, FLOW_TYPES, STEP_TYPES
from nbflow.model.view import _HANDLERS  # pyright: ignore[reportPrivateUsage] - the types that the fold knows
from nbflow.notebook.magics import COMMANDS
from nbflow.settings import Settings
from tests.house.reference import PAGES, REFERENCE, commands, error_classes, fresh
from tests.house.source import ROOT, python_files

EVENT_TYPES = sorted({*FLOW_TYPES, *STEP_TYPES, *BOUNDED_TYPES, *_HANDLERS})


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_what_is_generated_is_fresh(name: str) -> None:
    """Law: `python -m tests.house.reference` would change nothing."""
    assert page(name) == fresh(name), "run `python -m tests.house.reference`"


def test_every_setting_is_in_the_reference() -> None:
    assert [name for name in Settings.model_fields if f"`NBFLOW_{name.upper()}`" not in page("settings.md")] == []


def test_every_command_is_in_the_reference() -> None:
    assert [words for words, _ in commands() if f"### `{words}`" not in page("cli.md")] == []


def test_every_error_is_in_the_reference() -> None:
    assert [kind.__name__ for kind in error_classes() if f"| `{kind.__name__}` |" not in page("errors.md")] == []


def test_every_type_of_event_is_in_the_reference() -> None:
    assert [kind for kind in EVENT_TYPES if f"`{kind}`" not in page("events.md")] == []


def test_every_public_name_is_in_the_reference() -> None:
    """Law: what `from nbflow import …` offers is told, but for what IPython calls."""
    text = page("python.md") + page("errors.md")
    public = [name for name in nbflow.__all__ if not name.startswith("_") and "ipython" not in name]
    assert [name for name in public if not re.search(rf"\b{name}\b", text)] == []


def test_every_finding_is_in_the_reference() -> None:
    (source,) = [file.text for file in python_files("nbflow") if file.name.endswith("define/lint.py")]
    codes = set(re.findall(r'Finding\(\s*"([a-z-]+)"', source))
    assert codes, findings.__module__
    assert [code for code in sorted(codes) if f"`{code}`" not in page("python.md")] == []


def test_every_magic_is_in_the_reference() -> None:
    assert [command.usage for command in COMMANDS.values() if f"`{command.usage}`" not in page("python.md")] == []


def test_every_module_is_on_the_map() -> None:
    """Law: ARCHITECTURE.md names each module of nbflow, and none that is gone."""
    told = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    there = {file.name.removeprefix("nbflow/") for file in python_files("nbflow")} - {"__init__.py"}
    there = {name for name in there if not name.endswith("/__init__.py")}
    assert there - _on_the_map(told) == set()
    assert {name for name in _on_the_map(told) if "/" in name} - there - {"store/lua/settle.lua"} == set()


def _on_the_map(text: str) -> set[str]:
    """The files of the tables: in a row, a name without a folder is in that of the name before it."""
    found: set[str] = set()
    for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([\w/]+\.py)`", row):
            folder = name.rpartition("/")[0] if "/" in name else folder
            found.add(
                f"{folder}/{name}"
                if folder and "/" not in name and (ROOT / "nbflow" / folder / name).exists()
                else name
            )
    return found
