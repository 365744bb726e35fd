"""The keeper: a small process that starts the embedded server and, beside it, the supervisor of the local workers.

It starts again what ends by itself, ends all when nobody needed it for a while, and dies with its children: killed with
-9 it leaves nothing behind. It answers to signals only: SIGTERM ends in order, SIGINT at once, SIGHUP reads the wished
number of workers. It knows nothing of flows and must stay light: no redis-py, no pydantic, no pandas.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbflow.errors import NbflowError, ServerUnreachable
from nbflow.local.children import Child, Tended, spawn
from nbflow.local.idle import OWN_NAME, what_is_going_on
from nbflow.local.project import Project
from nbflow.local.record import Lock, Record, StackFiles, birth_of
from nbflow.local.server import remove_socket, socket_path, start_server, unix_url, wait_until_ready
from nbflow.store.keys import Keys
from nbflow.store.wire import ReplyError, Wire, connect

__all__ = ["Keeper", "Orders", "main", "workers_environment"]

_TICK_S = 1.0
_SERVER_GRACE_S = 20.0
_TROUBLE_AFTER = 3
_KERNELS_OWN = ("JPY_", "PYDEVD_", "IPYKERNEL_")


@dataclass(frozen=True, slots=True)
class Orders:
    """What a keeper is told at its start. `former_s` is how long it waits for a former one to end."""

    folder: Path
    root: Path
    workers: int
    idle_s: float = 900.0
    check_s: float = 15.0
    grace_s: float = 10.0
    former_s: float = 30.0
    namespace: str = "nbflow"
    supervisor: str = "nbflow.worker.serve"


class Keeper:
    """One stack: its locks, its server, its workers, its record."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.files = StackFiles(orders.folder)
        self.workers = orders.workers
        self.keys = Keys(orders.namespace)
        self._locks = (Lock(self.files.keeper_lock), Lock(self.files.server_lock))
        self._supervisor: Tended | None = None
        self._leaving: list[Child] = []
        self._wire: Wire | None = None
        self._heard: set[int] = set()
        self._started = time.time()
        self._needed = self._checked = time.monotonic()

    def start(self) -> Record:
        """Bring the stack up. Raises `ServerUnreachable` when that cannot be done."""
        self._take_locks()
        self._ears = _open_ears(self._heard)
        self.path = socket_path(self.orders.folder)
        self.url = unix_url(self.path)
        self._server = Tended(self._start_server)
        try:
            wait_until_ready(self._server.child, self.path, self.files.server_log)
        except ServerUnreachable:
            self._server.child.end(0)
            remove_socket(self.path, self.orders.folder)
            raise
        self._start_supervisor()
        return self._write_record()

    def keep(self) -> None:
        """Tend the stack until it is told to end, until nobody needs it, or until its folder is gone."""
        while not self._heard & {signal.SIGTERM, signal.SIGINT}:
            if signal.SIGHUP in self._heard:
                self._heard.discard(signal.SIGHUP)
                self._change_workers()
            self._tend()
            if self._is_forgotten() or not self._locks[0].is_in_place:
                return
            self._listen(_TICK_S)

    def stop(self) -> None:
        """Workers first, so that they can give back what they hold; then the server, which writes out what it has."""
        if self._locks[0].is_in_place:
            self._write_record(ending=True)  # who asks for the stack now waits for its end and starts another
        children = self._leaving + ([self._supervisor.child] if self._supervisor else [])
        for child in children:
            child.tell(signal.SIGTERM)
        end = time.monotonic() + self.orders.grace_s
        while any(child.ended() is None for child in children) and time.monotonic() < end:
            if signal.SIGINT in self._heard:
                break
            self._listen(0.1)
        for child in children:
            child.end(0)
        self._server.child.end(_SERVER_GRACE_S)
        if self._locks[0].is_in_place:
            self.files.record.unlink(missing_ok=True)
        remove_socket(self.path, self.orders.folder)

    def _take_locks(self) -> None:
        for lock in self._locks:
            if not lock.acquire(self.orders.former_s):
                former = Record.read(self.files.record)
                where = f"{former.host}, pid {former.pid}" if former else "pid unknown"
                raise ServerUnreachable(
                    f"The former stack of {self.orders.root} has not ended ({where}; it holds {lock.path}).",
                    hint="End it there with `nbflow down`, or wait for its end, then try again.",
                )

    def _start_server(self) -> Child:
        return start_server(self.orders.folder, self.path, keep=(self._locks[1].descriptor,))

    def _start_supervisor(self) -> None:
        """Old workers finish what they hold beside the new ones; they take nothing more."""
        if self._supervisor is not None:
            self._supervisor.child.tell(signal.SIGTERM)
            self._leaving.append(self._supervisor.child)
        self._supervisor = Tended(self._spawn_supervisor) if self.workers else None

    def _spawn_supervisor(self) -> Child:
        words = ["--url", self.url, "--namespace", self.orders.namespace]
        words += ["--concurrency", str(self.workers), "--queues", "*"]
        return spawn(
            [sys.executable, "-P", "-m", self.orders.supervisor, *words],
            self.files.workers_log,
            on_parent_death=signal.SIGKILL,
            environment=workers_environment(os.environ, Project(self.orders.root)),
        )

    def _change_workers(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            wished = int(self.files.wish.read_text(encoding="utf-8"))
            if wished != self.workers:
                self.workers = wished
                self._start_supervisor()
            self._write_record()

    def _tend(self) -> None:
        now = time.monotonic()
        self._leaving = [child for child in self._leaving if child.ended() is None]
        changed = self._server.tend(now)
        if self._supervisor is not None:
            before = self._supervisor.failures
            changed = self._supervisor.tend(now) or changed or before != self._supervisor.failures
        if changed:
            self._write_record()

    def _is_forgotten(self) -> bool:
        now = time.monotonic()
        if now - self._checked < self.orders.check_s:
            return False
        self._checked = now
        if self._is_needed():
            self._needed = now
        return now - self._needed >= self.orders.idle_s

    def _is_needed(self) -> bool:
        """In doubt it is: a server that does not answer now is being started again, or is busy."""
        try:
            if self._wire is None:
                self._wire = connect(self.url, 5.0)
                self._wire.call("CLIENT", "SETNAME", OWN_NAME)
            return bool(what_is_going_on(self._wire, self.keys))
        except (OSError, NbflowError, ReplyError):
            if self._wire is not None:
                self._wire.close()
            self._wire = None
            return True

    def _write_record(self, *, ending: bool = False) -> Record:
        supervisor = self._supervisor
        trouble = ""
        if supervisor is not None and supervisor.failures >= _TROUBLE_AFTER:
            trouble = f"The workers ended {supervisor.failures} times in a row; {self.files.workers_log} says why."
        record = Record(
            pid=os.getpid(),
            birth=birth_of(os.getpid()),
            url=self.url,
            socket=str(self.path),
            started=self._started,
            workers=self.workers,
            server_pid=self._server.pid,
            supervisor_pid=supervisor.pid if supervisor else 0,
            trouble=trouble,
            host=socket.gethostname(),
            ending=ending,
        )
        record.write(self.files.record)
        return record

    def _listen(self, timeout_s: float) -> None:
        """Sleep until a signal comes, a child ends, or the time is over."""
        readable, _, _ = select.select([self._ears], [], [], timeout_s)
        if readable:
            os.read(self._ears, 512)


def workers_environment(environment: Mapping[str, str], project: Project) -> dict[str, str]:
    """The environment of the workers: the one of who started the stack, without what belongs to a kernel only, with the
    project's secret and its place for artifacts unless others are set. Workers hide `NBFLOW_*` from user code."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_KERNELS_OWN)}
    if kept.get("MPLBACKEND", "").startswith("module://"):
        del kept["MPLBACKEND"]  # the notebook's backend loads IPython and shows its figures nowhere
    kept.pop("NBFLOW_REDIS_URL", None)
    own = {
        "NBFLOW_SECRET": environment.get("NBFLOW_SECRET") or project.secret().decode(),
        "NBFLOW_ARTIFACTS": environment.get("NBFLOW_ARTIFACTS") or str(project.folder / "artifacts"),
        "NBFLOW_PROJECT": str(project.root),
        "NBFLOW_CLIENT_NAME": OWN_NAME,
    }
    return kept | own


def _open_ears(heard: set[int]) -> int:
    """A descriptor that becomes readable at each signal; the numbers of the signals go into `heard`."""
    ears, mouth = os.pipe()
    for descriptor in (ears, mouth):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a kernel's thread may have blocked some, and we inherit that
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda got, _: heard.add(got))
    return ears


def main(words: list[str] | None = None) -> int:
    """Run a keeper. `--ready-fd` is where it says, in one line of JSON, that the stack is up or why not."""
    parser = argparse.ArgumentParser(prog="nbflow.local.keeper", description="Keeps one local stack.")
    parser.add_argument("--orders", required=True, help="JSON of `Orders`")
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--detach", action="store_true")
    given = parser.parse_args(words)
    if given.detach and os.fork():
        os._exit(0)  # who started us waits for this process only; the keeper belongs to init
    os.umask(0o077)
    raw = json.loads(given.orders)
    orders = Orders(**raw | {"folder": Path(raw["folder"]), "root": Path(raw["root"])})
    return _run(Keeper(orders), given.ready_fd)


def _run(keeper: Keeper, ready: int) -> int:
    os.set_inheritable(ready, False)
    try:
        record = keeper.start()
    except NbflowError as error:
        os.write(ready, json.dumps({"message": error.message, "hint": error.hint}).encode())
        return 1
    os.write(ready, json.dumps({"url": record.url}).encode())
    os.close(ready)
    try:
        keeper.keep()
    finally:
        keeper.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
