"""The crash matrix: one run for each point at which a process can die, and what must hold after it.

A server, a supervisor with one worker and a spare, and a launcher. For each point the process is (or is made) new, so
that its first write counts as 1; then a run is launched, somebody dies at the point, whoever watches over processes in
real life starts again what died, and the run must end as if nothing had been.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbflow.errors import UnknownRun
from nbflow.watch.run import Run
from tests.fault.crash_flow import RESULT
from tests.fault.points import Point, Points
from tests.laws import broken_laws
from tests.leaks import leaks
from tests.servers import Kind, running_server
from tests.site import SECRET, Site, Workers, open_site, wait_until

__all__ = ["QUEUES", "ROLES", "CrashSite", "open_crash_site"]

ROLES = ("worker", "isolated", "machine", "supervisor", "launcher", "ticker", "remover")
QUEUES = {"one queue": ("a", "a"), "two queues": ("a", "b")}
NEVER = 1 << 30
LIMIT_S = 60.0
"""How long a run may take to end after a death; the machine is shared."""


@dataclass
class CrashSite:
    """Where points are tried, one after the other."""

    site: Site
    points: Points
    queues: tuple[str, str]
    workers: Workers
    zygote: subprocess.Popen[str]
    writes: int = 0

    def try_point(self, point: Point) -> bool:
        """Whether somebody died there; raises AssertionError for what must not be so after it."""
        self._settle_down()
        self.points.arm(point)
        self._renew(point.role)
        run = self._launched("process" if point.role == "isolated" else None)
        if point.role == "ticker":
            self._ask("tick")
        wait_until(lambda: self._keep() and run.view.ended, limit_s=LIMIT_S, what=lambda: (str(point), run.events))
        self._judge(run, point)
        if point.role == "remover":
            self._ask("delete", run=run.id)
        self._keep_until(lambda: self.points.has_fired or point.role not in ROLES[:4], limit_s=0.5)
        fired, self.writes = self.points.disarm()
        self._judge_what_is_left(run, point)
        return fired

    def count_writes(self, role: str) -> int:
        """How many writes of that role's processes there are in the life of a run."""
        self.try_point(Point(role, NEVER, "before"))
        return self.writes

    # -- what happens ---------------------------------------------------------------------------------------------

    def _settle_down(self) -> None:
        """One worker lives, and only one is registered."""
        wait_until(lambda: self._keep() and self.site.living() == 1, limit_s=LIMIT_S, what=self.workers.log.read_text)

    def _renew(self, role: str) -> None:
        if role in ("worker", "machine"):
            for worker in self.site.nbflow.index.workers():
                with suppress(ProcessLookupError):
                    os.kill(worker.pid or NEVER, signal.SIGKILL)
        elif role == "supervisor":
            self.workers.stop()
            self._keep()

    def _keep(self) -> bool:
        """As a keeper does: a supervisor that died is started again."""
        if self.workers.process.poll() is not None:
            self.workers = _start_workers(self.site, self.points, self.queues)
        return True

    def _keep_until(self, true: Any, *, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not true() and time.monotonic() < end:
            self._keep()
            time.sleep(0.005)

    def _launched(self, isolation: str | None) -> Run:
        """The one run of its flow: a launcher that died is started again, with the same key."""
        flow = f"c{uuid.uuid4().hex[:10]}"
        for _ in range(2):
            self._ask("launch", flow=flow, queues=self.queues, isolation=isolation, key="only")
        (row,) = self.site.nbflow.index.runs(flow=flow)
        return self.site.nbflow.run(row.id)

    def _ask(self, do: str, **more: Any) -> int:
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        print(json.dumps({"do": do, **more}), file=self.zygote.stdin, flush=True)
        return int(self.zygote.stdout.readline())

    # -- what must hold -------------------------------------------------------------------------------------------

    def _judge(self, run: Run, point: Point) -> None:
        assert broken_laws(self.site.nbflow.store.text, run.id) == [], str(point)
        assert run.result == RESULT, str(point)

    def _judge_what_is_left(self, run: Run, point: Point) -> None:
        """Nothing of the run, once it is deleted: by who died on the way, or now."""
        with suppress(UnknownRun):
            run.delete()
        self._settle_down()
        wait_until(
            lambda: self._keep() and not self._left(run), limit_s=LIMIT_S, what=lambda: f"{point}: {self._left(run)}"
        )

    def _left(self, run: Run) -> list[str]:
        """Keys without an owner, and what is left of the run, which is deleted."""
        store = self.site.nbflow.store
        return leaks(store) + [str(key) for key in store.text.scan_iter(count=1000) if run.id in str(key)]


def _start_workers(site: Site, points: Points, queues: tuple[str, str]) -> Workers:
    served = ",".join(dict.fromkeys(queues))
    return site.start_workers(1, queues=served, NBFLOW_LEASE_S="2", NBFLOW_HEARTBEAT_S="0.1", **points.environment())


@contextmanager
def open_crash_site(folder: Path, queues: tuple[str, str], kind: Kind = "valkey") -> Generator[CrashSite]:
    points = Points(folder / "point")
    with running_server(kind, folder) as server, open_site(server, folder) as site:
        command = [sys.executable, "-m", "tests.fault.zygote", server.url, SECRET, str(folder)]
        zygote = subprocess.Popen(
            command, env=os.environ | points.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        crash_site = CrashSite(site, points, queues, _start_workers(site, points, queues), zygote)
        try:
            yield crash_site
        finally:
            with zygote:
                zygote.kill()
            crash_site.workers.stop()
