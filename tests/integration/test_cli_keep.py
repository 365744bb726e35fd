"""`nbflow delete`, `prune`, `du` and `export`, on a server where no worker is: its runs end by a cancel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nbflow
from nbflow import Flow
from nbflow.app import Nbflow
from tests.integration.test_cli import Here
from tests.servers import RunningServer


@pytest.fixture
def here(valkey: RunningServer, tmp_path: Path) -> Iterator[Here]:
    (tmp_path / ".nbflow").mkdir()
    made = Here(tmp_path, NBFLOW_REDIS_URL=valkey.url, NBFLOW_NAMESPACE="keep")
    made.ask("FLUSHALL")
    yield made
    left = {key.decode() for key in made.ask("KEYS", "*")}
    assert left <= {"keep:queues", "keep:format", "keep:place", "keep:wake:default", "rq:queues"}


def start(here: Here, *, cancel: bool = True) -> str:
    flow = Flow("etl")

    @flow.entry
    def first(name: str = "kept") -> None: ...

    with Nbflow(here.environment["NBFLOW_REDIS_URL"], namespace="keep", project=here.directory) as opened:
        run = flow.options(on=opened, tags=["t"]).start()
        if cancel:
            run.cancel("enough")
    return run.id


def test_runs_that_have_ended_are_deleted_and_the_others_are_told(here: Here) -> None:
    first, second, third = start(here), start(here), start(here, cancel=False)
    said = here.run("delete", first, "zzz", third, code=1)
    assert "There is no run 'zzz'" in said
    assert "is running, and only one that has ended can be deleted" in said
    assert f"→ Cancel it first: `nbflow cancel {third[:8]}`." in said
    here.run("cancel", third)
    assert here.run("delete", third[:12]) == f"Run {third} is deleted.\n"
    assert here.json("delete", second) == [{"id": second}]


def test_what_is_kept_is_measured_exported_and_pruned(here: Here) -> None:
    run = start(here)
    assert f"{run[:8]}.nbflow holds the run" in here.run("export", run[:12])
    loaded = nbflow.load(here.directory / f"etl-{run[:8]}.nbflow")
    assert (loaded.id, loaded.status, loaded.input) == (run, "canceled", {"name": "kept"})
    assert "file.nbflow" in here.run("export", run, "file.nbflow")
    assert nbflow.load(here.directory / "file.nbflow").view.end["reason"] == "enough"
    assert "There is no run 'zzz'" in here.run("export", "zzz", code=2)
    rows = {(row["what"], row["name"]): row for row in here.json("du")}
    assert (rows["runs", "etl"]["count"], rows["code", "bundles"]["count"]) == (1, 1)
    assert rows["runs", "etl"]["bytes"] > 1000
    assert here.run("du").splitlines()[1].startswith("runs")
    assert here.run("prune") == "0 runs deleted.\n"
    assert "no ended run is 'running'" in here.run("prune", "--status", "running", code=2)
    assert "'soon'" in here.run("prune", "--older", "soon", code=1)
    shown = here.run("prune", "--older", "0s", "--dry-run")
    assert run[:8] in shown
    assert shown.endswith("1 run would be deleted.\n")
    assert here.json("prune", "--older", "0s", "--flow", "another") == []
    (pruned,) = here.json("prune", "--older", "0s", "--status", "canceled")
    assert (pruned["id"], pruned["tags"]) == (run, ["t"])
