"""`nbflow resume`, `restart` and `fork`, against a real server and real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli import Here, eventually
from tests.unit.test_cli_cells import notebook

CELLS = (
    "from nbflow import Flow, collect, each",
    'etl = Flow("etl")',
    "@etl.entry\ndef numbers(count: int = 3) -> list[int]:\n    return list(range(count))",
    "@etl.step(each(numbers))\ndef square(n: int) -> int:\n    return n * n",
    "@etl.step(collect(square))\ndef total(values: list[int]) -> int:\n    return sum(values) // 0",
)
MENDED = (*CELLS[:-1], "@etl.step(collect(square))\ndef total(values: list[int]) -> int:\n    return sum(values)")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    made = Here(tmp_path_factory.mktemp("project"))
    (made.directory / ".nbflow").mkdir()
    notebook(Path(made.directory / "etl.ipynb"), *CELLS)
    notebook(Path(made.directory / "mended.ipynb"), *MENDED)
    made.run("up", "--workers", "2")
    yield made
    made.run("down", "--now")


def ended(here: Here, run: str, status: str) -> None:
    shown = eventually(lambda: here.json("show", run), lambda one: one["status"] != "running")
    assert shown["status"] == status


def test_a_failed_run_is_resumed_with_the_mended_notebook(here: Here) -> None:
    run = here.start()
    ended(here, run, "failed")
    own = here.json("resume", run[:12])
    assert own[0]["forkedFrom"] == run
    ended(here, own[0]["id"], "failed")
    said = here.run("resume", run, "--from", "mended.ipynb")
    assert f"goes on from {run[:8]}. 4 tasks are taken over." in said
    ended(here, said.split()[1], "completed")
    ended(here, here.json("fork", run, "--from", "mended.ipynb")[0]["id"], "completed")
    ended(here, here.json("restart", run, "--from", "mended.ipynb")[0]["id"], "completed")


def test_many_are_found_by_a_filter(here: Here) -> None:
    tagged = [here.start("--tag", "tonight") for _ in range(2)]
    for run in tagged:
        ended(here, run, "failed")
    made = here.json("resume", "--tag", "tonight", "--from", "mended.ipynb")
    assert {one["forkedFrom"] for one in made} == set(tagged)
    for one in made:
        ended(here, one["id"], "completed")
    assert "No such runs." in here.run("resume", "--tag", "tomorrow")
    failed = {one["id"] for one in here.json("runs", "--flow", "etl", "--status", "failed")}
    made = here.json("restart", "--flow", "etl", "--from", "mended.ipynb")
    assert {one["forkedFrom"] for one in made} == failed, "without --status those that failed"


def test_what_cannot_be_is_a_sentence(here: Here) -> None:
    run = here.start()
    ended(here, run, "failed")
    assert "has no event '1-1'" in here.run("fork", run, "--at", "1-1", code=1)
    assert "name runs, or give a filter" in here.run("resume", code=2)
    assert "name runs, or give a filter" in here.run("resume", run, "--flow", "etl", code=2)
    assert "no ended run is 'running'" in here.run("restart", "--status", "running", code=2)
    assert "There is no run 'nothing'" in here.run("resume", "nothing", code=2)
