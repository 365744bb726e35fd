"""`make chaos`: runs of mixed flows, while workers and supervisors are killed, connections cut and the server killed and
started again. One of the two supervisors and one of the two launchers are of the release before this one. Afterwards the
independent checker states every broken law. `python -m tests.fault.chaos --minutes 5`
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbflow import Flow
from nbflow.errors import CommandRefused, StoreError
from nbflow.watch.run import Run
from tests.fault import chaos_flows, launcher
from tests.fault.chaos_flows import MIXED
from tests.fault.releases import Earlier, earlier_release
from tests.laws import broken_laws, history
from tests.leaks import leaks
from tests.servers import start_server
from tests.site import SECRET, Workers, open_site, wait_until

__all__ = ["Chaos", "Started"]

AOF = ("--appendfsync", "always")
LIMIT_S = 240.0


@dataclass(slots=True)
class Started:
    """A run, and what should come out of it."""

    run: Run
    expected: int
    is_canceled: bool = False


@dataclass
class Chaos:
    """A site under fire. With an `earlier` release, the second supervisor and every other launch are of it."""

    folder: Path
    seed: int
    workers: int = 4
    earlier: Earlier | None = None
    of_earlier: set[str] = field(default_factory=set[str])
    executions: Counter[str] = field(default_factory=Counter[str])
    deeds: Counter[str] = field(default_factory=Counter[str])
    started: list[Started] = field(default_factory=list[Started])
    supervisors: list[Workers] = field(default_factory=list[Workers])
    launcher: subprocess.Popen[str] | None = None

    def run(self, runs: int, seconds: float, *, restart_every_s: float) -> list[str]:
        """Every broken law, a sentence each."""
        self.draw = random.Random(self.seed)
        self.server = start_server("valkey", self.folder / "data", *AOF, aof=True)
        self.port, self.server.url = self.server.port, self.server.tcp_url
        try:
            with open_site(self.server, self.folder) as self.site:
                self.supervisors = [self._supervisor(i) for i in range(2)]
                self.launcher = self._earlier_launcher() if self.earlier else None
                self.flows = {name: self._flow(name) for name in MIXED}
                self._rage(runs, seconds, restart_every_s)
                return self._verdict()
        finally:
            for workers in self.supervisors:
                workers.stop(60)
            if self.launcher:
                with self.launcher:
                    self.launcher.kill()
            self.server.stop()

    def _supervisor(self, i: int) -> Workers:
        of_earlier = self.earlier.environment if self.earlier and i else {}
        settings = {"NBFLOW_LEASE_S": "3", "NBFLOW_HEARTBEAT_S": "0.3"}
        started = self.site.start_workers(self.workers // 2, **settings, **of_earlier)
        if of_earlier:
            self.of_earlier.add(str(started.process.pid))
        return started

    def _earlier_launcher(self) -> subprocess.Popen[str]:
        assert self.earlier is not None
        shutil.copy(chaos_flows.__file__, self.folder)
        command = [sys.executable, "-P", launcher.__file__, self.server.url, SECRET, str(self.folder)]
        environment = os.environ | self.earlier.environment
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _flow(self, name: str) -> Flow:
        flow = Flow(f"chaos-{name}")
        MIXED[name][0](flow)
        return flow

    # -- what happens ---------------------------------------------------------------------------------------------

    def _rage(self, runs: int, seconds: float, restart_every_s: float) -> None:
        """Runs are spread over the time; deeds come at random."""
        began = time.monotonic()
        restart_at = began + restart_every_s
        while (now := time.monotonic()) < began + seconds or len(self.started) < runs:
            if len(self.started) < min(runs, (now - began) / seconds * runs + 1):
                self._start(len(self.started))
            if now >= restart_at and now < began + seconds:
                self._restart_the_server()
                restart_at = time.monotonic() + restart_every_s
            elif now < began + seconds:
                self._strike()
            self._keep()
            time.sleep(0.01)

    def _start(self, i: int) -> None:
        """With a key, so that it may be said again until somebody answers."""
        name = self.draw.choice(sorted(MIXED))
        n = self.draw.randrange(2, 9)
        if self.launcher and i % 2:
            run = self._patiently(lambda: self.site.nbflow.run(self._launched(flow=name, n=n, key=f"run {i}")))
        else:
            start: Any = self.flows[name].options(key=f"run {i}").start
            run = self._patiently(lambda: start(n=n))
        self.started.append(Started(run, MIXED[name][1](n)))

    def _launched(self, **order: Any) -> str:
        """By the earlier release, which may say it twice as well."""
        assert self.launcher is not None
        assert self.launcher.stdin is not None
        assert self.launcher.stdout is not None
        print(json.dumps(order), file=self.launcher.stdin, flush=True)
        return self.launcher.stdout.readline().strip()

    def _patiently(self, do: Callable[[], Any]) -> Any:
        """Our own connections are cut as well."""
        return launcher.patiently(do, self._keep)

    def _strike(self) -> None:
        deeds = {"kill a worker": 5, "kill a supervisor": 1, "cut connections": 4, "cancel a run": 1}
        if self.draw.random() > 0.15:
            return
        deed = self.draw.choices(list(deeds), list(deeds.values()))[0]
        with suppress(StoreError, ProcessLookupError):
            self.deeds[deed] += bool({
                "kill a worker": self._kill_a_worker, "kill a supervisor": self._kill_a_supervisor,
                "cut connections": self._cut, "cancel a run": self._cancel,
            }[deed]())  # fmt: skip

    def _kill_a_worker(self) -> bool:
        workers = [worker for worker in self.site.nbflow.index.workers() if worker.pid]
        if workers:
            os.kill(self.draw.choice(workers).pid or 0, signal.SIGKILL)
        return bool(workers)

    def _kill_a_supervisor(self) -> bool:
        self.draw.choice(self.supervisors).kill()
        return True

    def _cut(self) -> bool:
        client: Any = self.site.nbflow.store.client
        ids = [one["id"] for one in client.client_list()]
        return bool([client.client_kill_filter(_id=one) for one in self.draw.sample(ids, min(2, len(ids)))])

    def _cancel(self) -> bool:
        live = [one for one in self.started[-5:] if not one.is_canceled]
        if live:
            one = self.draw.choice(live)
            one.is_canceled = True  # whether it came in time, its events tell
            with suppress(CommandRefused):
                one.run.cancel()
        return bool(live)

    def _restart_the_server(self) -> None:
        self.server.kill()
        time.sleep(0.2)
        self.server = start_server("valkey", self.folder / "data", *AOF, "--port", str(self.port), aof=True)
        self.deeds["restart the server"] += 1

    def _keep(self) -> None:
        for i, workers in enumerate(self.supervisors):
            if workers.process.poll() is not None:
                self.supervisors[i] = self._supervisor(i)

    # -- what is asked afterwards ---------------------------------------------------------------------------------

    def _verdict(self) -> list[str]:
        for one in self.started:
            wait_until(lambda one=one: self._has_ended(one.run), limit_s=LIMIT_S, what=lambda one=one: one.run.events)
        text = self.site.nbflow.store.text
        broken = [law for one in self.started for law in broken_laws(text, one.run.id)]
        broken += [wrong for one in self.started if (wrong := self._outcome(one))]
        count = Counter(self.site.nbflow.index.run(one.run.id).key for one in self.started)
        self._count_executions()
        broken += [f"the key {key!r} has {n} runs" for key, n in count.items() if n > 1]
        with suppress(AssertionError):  # then they are told
            wait_until(lambda: self._patiently(lambda: self._keep() or not leaks(self.site.nbflow.store)), limit_s=60)
        return broken + leaks(self.site.nbflow.store)

    def _has_ended(self, run: Run) -> bool:
        self._keep()
        return self._patiently(lambda: run.view.ended)

    def _outcome(self, one: Started) -> str:
        """Canceled only if we did; failed only if a task lost more workers than it may."""
        run = one.run
        if run.status == "canceled":
            return "" if one.is_canceled else f"{run.id[:8]} is canceled, and nobody did it"
        if run.status == "failed":
            lost = any(event.data.get("reason") == "lost" for event in run.follow(timeout=10))
            return "" if lost else f"{run.id[:8]} of {run.flow} failed: {run.error}"
        return "" if run.result == one.expected else f"{run.id[:8]} of {run.flow} gave {run.result}, not {one.expected}"

    def _count_executions(self) -> None:
        """By release: the name of a worker says whose it is."""
        for one in self.started:
            for *_, data in history(self.site.nbflow.store.text, one.run.id):
                parts = str(data.get("worker", "")).split(".")
                self.executions["earlier" if self.of_earlier & {*parts} else "today"] += len(parts) > 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.chaos")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--alone", action="store_true", help="without the release before this one")
    return parser.parse_args()


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        earlier = None if options.alone else earlier_release(Path(folder) / "earlier")
        if earlier and not earlier.takes_part:
            print(f"the release before this one, {earlier.commit}, is of format {earlier.format} and takes no part")
            earlier = None
        chaos = Chaos(Path(folder), options.seed, earlier=earlier)
        broken = chaos.run(options.runs, options.minutes * 60, restart_every_s=40)
    print(f"seed {options.seed}: {len(chaos.started)} runs", dict(chaos.deeds))
    print(f"executions by release, the earlier one being {earlier and earlier.commit}:", dict(chaos.executions))
    print(Counter(one.run._view.status for one in chaos.started))
    print("\n".join(broken) or "no law is broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
