"""Deletion, retention and the sweeping of artifacts, with real workers and an artifact store beside the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbflow
from nbflow import Context, Flow, collect, each
from nbflow.app import Nbflow
from nbflow.errors import CommandRefused, UnknownRun
from nbflow.settings import settings
from nbflow.watch.run import Run
from tests.leaks import leaks
from tests.servers import start_server
from tests.site import SECRET, Site, open_site, wait_until

SMALL, LARGE = 200_000, 1_200_000
"""Numbers of 8 bytes: what lies in the server, and what does not."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def site(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of its own: all that is on its server is counted here."""
    folder = tmp_path_factory.mktemp("keeping")
    server = start_server("valkey", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBFLOW_ARTIFACTS", str(place))
        settings.cache_clear()
        with open_site(server, folder) as opened:
            workers = opened.start_workers(2)
            try:
                wait_until(lambda: opened.living() == 2, what=workers.log.read_text)
                yield opened
            finally:
                workers.stop()
                server.stop()
    settings.cache_clear()


def arrays(site: Site, **options: Any) -> Flow:
    """Logs, state, a map, a collect, and an array that only its size decides."""
    flow = site.flow(**options)

    @flow.entry
    def numbers(size: int, ctx: Context) -> list[int]:
        ctx.state.set("size", size)
        ctx.log.info("here")
        return [size, size]

    @flow.step(each(numbers))
    def make(size: int) -> Any:
        return np.arange(size, dtype=np.int64)

    @flow.step(collect(make))
    def last(made: list[Any]) -> Any:
        return made[0]

    return flow


def kept(site: Site) -> set[str]:
    """Keys that are there for runs: neither a worker's nor a queue's."""
    keys = set(site.nbflow.store.text.scan_iter(count=1000))
    ours = {key for key in keys if key.startswith(("nbflow:", "rq:job:"))}
    idle = ("nbflow:wake:", "nbflow:workers", "nbflow:queues", "nbflow:place", "nbflow:format")
    return {key for key in ours if not key.startswith(idle)}


def files(place: Path) -> set[str]:
    return {path.name for path in place.rglob("*") if path.is_file()}


def done(flow: Flow, size: int = SMALL) -> Run:
    run = flow.start(size=size).wait(30, progress=False)
    assert run.status == "completed", run.error
    return run


@pytest.fixture(autouse=True)
def nothing_is_left(site: Site, place: Path) -> Iterator[None]:
    yield
    site.nbflow.prune(0)
    assert leaks(site.nbflow.store) == []
    assert kept(site) == set()
    assert files(place) == set()


def test_a_deleted_run_takes_every_key_along(site: Site):
    flow = arrays(site)
    other = done(flow, 10)
    before = kept(site)
    run = done(flow)
    assert any(run.id in key for key in kept(site))
    run.delete()
    assert kept(site) == before
    assert run.id not in set(nbflow.runs(limit=1000)["id"])
    assert other.status == "completed"
    for look in (lambda: run.status, lambda: run.result, lambda: nbflow.run(run.id), run.delete):
        with pytest.raises(UnknownRun):
            look()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_runs_share_lives_until_the_last_one_goes(site: Site, place: Path, size: int):
    flow = arrays(site)
    first, second = done(flow, size), done(flow, size)
    assert len(files(place)) == (1 if size == LARGE else 0)
    first.delete()
    assert leaks(site.nbflow.store) == []
    assert np.array_equal(Nbflow(site.server.url, secret=SECRET).run(second.id).result, np.arange(size))
    second.delete()
    assert not [key for key in kept(site) if "artifact" in key or "owne" in key]
    assert files(place) == set()


def test_a_run_that_lives_is_not_deleted(site: Site):
    flow = site.flow()

    @flow.entry
    def wait() -> None:
        import time

        time.sleep(30)

    run = flow.start()
    with pytest.raises(CommandRefused, match="running"):
        run.delete()
    run.cancel()
    run.delete()
    with pytest.raises(UnknownRun):
        nbflow.run(run.id)


def test_a_run_goes_by_itself_when_its_retention_is_over(site: Site):
    flow = arrays(site, retention="1s")
    run = done(flow)
    wait_until(lambda: not kept(site), what=lambda: sorted(kept(site)))
    with pytest.raises(UnknownRun):
        nbflow.run(run.id)


def test_prune_takes_what_it_is_told_and_tells_it_first(site: Site):
    flow, other = arrays(site), arrays(site)
    run, spared = done(flow, 10), done(other, 10)
    assert site.nbflow.prune("1h") == []
    assert [row.id for row in site.nbflow.prune(0, flow=flow.name, dry_run=True)] == [run.id]
    assert site.nbflow.prune(0, status="failed") == []
    with pytest.raises(CommandRefused, match="No ended run is 'running'"):
        site.nbflow.prune(0, status="running", dry_run=True)
    assert run.status == spared.status == "completed"
    assert [row.id for row in site.nbflow.prune(0, flow=flow.name)] == [run.id]
    assert set(nbflow.runs()["id"]) == {spared.id}


def test_du_counts_what_is_there(site: Site):
    flow = arrays(site)
    runs = [done(flow, SMALL), done(flow, LARGE)]
    rows = {(row.what, row.name): row for row in site.nbflow.du()}
    mine = rows["runs", flow.name]
    assert (mine.count, mine.is_estimate) == (len(runs), False)
    measured = [key for key in kept(site) if any(run.id in key for run in runs)]
    client: Any = site.nbflow.store.client
    assert mine.bytes == pytest.approx(sum(client.memory_usage(key) for key in measured), rel=0.05)
    assert rows["artifacts", "artifacts"].count == 2
    assert rows["artifacts", "artifacts"].bytes == pytest.approx(SMALL * 8, rel=0.3)
    beside = rows["files", "artifacts beside the server"]
    assert (beside.count, beside.bytes) == (1, pytest.approx(LARGE * 8, rel=0.01))
    assert (rows["code", "plans"].count, rows["code", "bundles"].count) == (1, 1)
    assert rows["server", "memory in use"].bytes > mine.bytes


def test_two_namespaces_share_a_directory_and_count_for_themselves(site: Site, place: Path):
    run = done(arrays(site), LARGE)
    blob = b"x" * (9 * 1024 * 1024)
    with Nbflow(site.server.url, secret=SECRET, namespace="other") as other:
        digest = next(iter(files(place)))
        other.artifacts.put(digest, blob, {})
        assert len(list(place.rglob(digest))) == 2, "each has its own folder"
        other.store.client.hset(other.store.keys.dust(), digest, "r")
        try:
            other.prune(0)
        finally:
            for key in other.store.text.scan_iter("other:*"):
                other.store.client.delete(key)
        assert len(list(place.rglob(digest))) == 1
    assert len(run.result) == LARGE


def test_the_sweeper_puts_back_what_somebody_owns(site: Site, place: Path):
    """It was left, and another run came to own it before the sweeper looked."""
    run = done(arrays(site), LARGE)
    (digest,) = files(place)
    site.nbflow.store.client.hset(site.nbflow.store.keys.dust(), digest, "an earlier run")
    site.nbflow.prune("1h")
    assert files(place) == {digest}
    assert len(run.result) == LARGE


def test_whoever_dies_between_two_slices_leaves_the_rest_to_the_others(site: Site, place: Path):
    """Law: after each script every key has an owner, and the supervisor goes on where somebody stopped."""
    run = done(arrays(site), LARGE)
    store = site.nbflow.store
    assert store.run_script("delete", id=run.id) == [b"OK"]
    wait_until(lambda: not [key for key in kept(site) if run.id in key])
    assert leaks(store) == []
    assert len(files(place)) == 1, "the file is in the dust, and swept when a worker is idle or somebody prunes"
    assert store.client.hlen(store.keys.dust()) == 1


IMPATIENT = "import nbflow.worker.worker\nnbflow.worker.worker.SWEEP_S, nbflow.worker.worker.WAIT_S = 0.0, 1\n"


def test_an_idle_worker_sweeps(site: Site, place: Path, tmp_path: Path):
    """Whoever deleted the run has no artifact store, or has died: the file is in the dust."""
    run = done(arrays(site), LARGE)
    store = site.nbflow.store
    assert store.run_script("delete", id=run.id) == [b"OK"]
    while store.run_script("retire"):
        pass
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    sweeping = site.start_workers(1, queues="sweeping", PYTHONPATH=str(tmp_path))
    try:
        wait_until(lambda: not store.client.exists(store.keys.dust()), limit_s=60, what=sweeping.log.read_text)
        wait_until(lambda: not files(place), what=lambda: files(place))
    finally:
        sweeping.stop()
