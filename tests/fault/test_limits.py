"""A slot is a lease and nothing else: workers that are killed, and runs that are canceled, give theirs back."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from nbflow import Concurrency
from tests.site import Site, wait_until

pytestmark = pytest.mark.fault


def test_workers_that_are_killed_give_their_slots_back_and_the_limit_holds(site: Site, tmp_path: Path) -> None:
    """Law: however many workers there are, two tasks run at once and no third; also while they are killed."""
    flow = site.flow()

    @flow.entry(queue="limited", concurrency=Concurrency(2))
    def mark(folder: Path, n: int) -> int:
        import os
        import time

        mine = folder / f"{n}-{os.getpid()}"
        mine.touch()
        while not (folder / "meet").exists():  # the first two wait for each other
            time.sleep(0.005)
        time.sleep(0.03)
        mine.unlink()
        return n

    def alive() -> list[Path]:
        return [path for path in tmp_path.iterdir() if path.name != "meet" and _lives(path)]

    workers = site.start_workers(4, queues="limited")
    draw, killed = random.Random(5), set[str]()
    try:
        runs = flow.start_many([{"folder": tmp_path, "n": n} for n in range(20)])
        for path in wait_until(lambda: len(found := alive()) == 2 and found, what=workers.log.read_text):
            killed.add(path.name.partition("-")[0])
            _kill(path)
        wait_until(lambda: len(alive()) == 2, what=workers.log.read_text)
        (tmp_path / "meet").touch()
        while not all(run.view.ended for run in runs):
            now = alive()
            assert len(now) <= 2, now
            fresh = [path for path in now if path.name.partition("-")[0] not in killed]  # four times would be final
            if fresh and len(killed) < 8 and draw.random() < 0.2:
                killed.add(fresh[0].name.partition("-")[0])
                _kill(fresh[0])
            time.sleep(0.005)
        assert [run.result for run in runs] == list(range(20))
    finally:
        workers.stop()
    assert not site.nbflow.store.client.exists(f"nbflow:limit:c:{flow.name}:mark", f"nbflow:lines:c:{flow.name}:mark")


def _lives(path: Path) -> bool:
    """Whether the process that executes it is there. The order counts: one that was killed between is no witness."""
    return Path(f"/proc/{path.name.partition('-')[2]}/fd/0").exists() and path.exists()


def _kill(path: Path) -> None:
    try:
        os.kill(int(path.name.partition("-")[2]), signal.SIGKILL)
        path.unlink()
    except OSError:
        return  # it ended meanwhile


def test_a_canceled_run_hands_its_slot_on_at_once(site: Site, tmp_path: Path) -> None:
    flow = site.flow()

    @flow.entry(concurrency=Concurrency(1))
    def wait_for(flag: Path, began: Path) -> str:
        import time

        began.touch()
        while not flag.exists():
            time.sleep(0.005)
        return "done"

    first = flow.start(flag=tmp_path / "never", began=tmp_path / "first")
    wait_until((tmp_path / "first").exists)
    (tmp_path / "now").touch()
    second = flow.start(flag=tmp_path / "now", began=tmp_path / "second")
    wait_until(lambda: "wait_for" in second.view.tasks)
    assert not (tmp_path / "second").exists()
    first.cancel("make room")
    assert second.wait(20, progress=False).result == "done"
