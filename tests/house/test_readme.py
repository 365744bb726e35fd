"""The README's commands are the ones that `make` and continuous integration run."""

from __future__ import annotations

import re

from tests.house.source import ROOT

FIRST = "python3 -m venv .venv && "


def try_it() -> list[str]:
    """The fenced blocks below the heading "Try it"."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("\n## Try it\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```sh\n(.*?)\n```$", section, re.DOTALL | re.MULTILINE)


def recipe(target: str) -> str:
    """What `make target` runs, as it would be typed."""
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{target}:"))
    return lines[start + 1].strip().replace("$(BIN)", ".venv/bin")


def test_two_commands_of_one_line_do_all_the_setting_up() -> None:
    blocks = try_it()
    assert len(blocks) == 2
    assert all(block.startswith(FIRST) and "\n" not in block for block in blocks), blocks


def test_make_runs_the_commands_of_the_readme() -> None:
    """Law: each block is the making of the environment, then the recipe of its target."""
    assert try_it() == [FIRST + recipe("quickstart"), FIRST + recipe("test")]


def test_continuous_integration_ends_with_the_test_command_of_the_readme() -> None:
    """Law: the last line of `.ci/run` is that command, so its exit code is the tests'."""
    assert (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1] == try_it()[1]
