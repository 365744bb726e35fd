"""The local stack of a project directory and interpreter, as kernels and commands see it: up, down, how is it.

The processes are the keeper's business (`keeper.py`); here are the ways to start it, to find it and to signal it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import site
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbflow.errors
from nbflow.errors import NbflowError, ServerUnreachable
from nbflow.local.children import open_log
from nbflow.local.project import Project, write_privately
from nbflow.local.record import Lock, Record, StackFiles, birth_of, is_alive
from nbflow.local.server import last_lines, ping
from nbflow.store.wire import ReplyError, connect

__all__ = ["Stack", "StackStatus", "default_workers", "findable"]

_START_TIMEOUT_S = 90.0
_END_TIMEOUT_S = 60.0


def default_workers() -> int:
    """One for each core that this process may use, at most four."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores)


@dataclass(frozen=True, slots=True)
class StackStatus:
    """How a stack is. When it does not run only `folder` says something."""

    running: bool
    folder: Path
    url: str = ""
    pid: int = 0
    server_pid: int = 0
    supervisor_pid: int = 0
    started: datetime | None = None
    workers: int = 0
    memory_bytes: int = 0
    connections: int = 0
    trouble: str = ""

    @property
    def uptime(self) -> timedelta | None:
        return None if self.started is None else datetime.now(UTC) - self.started


@dataclass(frozen=True, slots=True)
class Stack:
    """The stack of a project. Making one starts nothing; all who make one for the same project mean the same stack.

    `workers` None means `default_workers()`. `supervisor` is the module that runs the workers.
    """

    project: Project
    workers: int | None = None
    idle_s: float = 900.0
    check_s: float = 15.0
    grace_s: float = 10.0
    namespace: str = "nbflow"
    supervisor: str = "nbflow.worker.serve"

    @property
    def files(self) -> StackFiles:
        return StackFiles(self.project.stack_folder)

    def ensure(self) -> str:
        """The URL of the running stack, which is started if it does not run. Costs a PING when it does.

        Raises `ServerUnreachable` with the end of the server's log when it cannot be started.
        """
        url = self._running_url()
        if url:
            return url
        if sys.platform == "win32":
            raise ServerUnreachable(
                "The embedded server and local workers need Linux or macOS.",
                hint="Work in WSL, or set NBFLOW_REDIS_URL to a server.",
            )
        self.project.make_stack_folder()
        turn = Lock(self.files.starter_lock)
        if not turn.acquire(_START_TIMEOUT_S):
            raise ServerUnreachable(
                f"Another process has been starting the local stack of {self.project.root} for too long.",
                hint=f"Read {self.files.keeper_log}, then try again.",
            )
        try:
            return self._running_url() or self._start()  # another may have started it while we waited
        finally:
            turn.release()

    def status(self) -> StackStatus:
        """How the stack is now."""
        record = self._living_record()
        if record is None:
            return StackStatus(running=False, folder=self.files.folder)
        memory, connections = _usage(record.url)
        return StackStatus(
            running=True,
            folder=self.files.folder,
            url=record.url,
            pid=record.pid,
            server_pid=record.server_pid,
            supervisor_pid=record.supervisor_pid,
            started=datetime.fromtimestamp(record.started, UTC),
            workers=record.workers,
            memory_bytes=memory,
            connections=connections,
            trouble=record.trouble,
        )

    def set_workers(self, number: int) -> None:
        """Have so many local workers from now on; those that are too many finish what they hold. Starts the stack if it
        does not run."""
        if number < 0:
            raise nbflow.errors.CommandRefused(f"There cannot be {number} workers.", hint="Ask for 0 or more.")
        record = self._living_record()
        if record is None or record.ending:  # one that ends hears no wish any more
            replace(self, workers=number).ensure()
            return
        write_privately(self.files.wish, f"{number}\n")
        os.kill(record.pid, signal.SIGHUP)

    def down(self, *, now: bool = False) -> bool:
        """End the stack; what it stored stays. Workers may finish for `grace_s`, or not at all with `now`. Returns
        whether there was one. Comes back when no process of it is left."""
        record = self._living_record()
        if record is None:
            return False
        family = [(pid, birth_of(pid)) for pid in (record.server_pid, record.supervisor_pid) if pid]
        family.append((record.pid, record.birth))
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
            os.kill(record.pid, signal.SIGINT if now else signal.SIGTERM)
        if not _wait_for_end(family, _END_TIMEOUT_S + self.grace_s):
            os.kill(record.pid, signal.SIGKILL)  # its children die with it
            _wait_for_end(family, _END_TIMEOUT_S)
        return True

    def _living_record(self) -> Record | None:
        record = Record.read(self.files.record)
        return record if record is not None and is_alive(record.pid, record.birth) else None

    def _running_url(self) -> str:
        record = self._living_record()
        usable = record is not None and not record.ending and ping(record.socket)
        return record.url if record is not None and usable else ""

    def _start(self) -> str:
        ears, ready = os.pipe()
        try:
            self._launch_keeper(ready)
            return self._hear(ears)
        finally:
            os.close(ears)

    def _launch_keeper(self, ready: int) -> None:
        try:
            with open_log(self.files.keeper_log) as log:
                starter = subprocess.Popen(
                    [sys.executable, "-P", "-m", "nbflow.local.keeper", *self._orders(ready)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.project.root,
                    env=findable(os.environ),
                    pass_fds=(ready,),
                    start_new_session=True,
                )
        finally:
            os.close(ready)
        starter.wait()  # it forks at once; the keeper itself is no child of ours

    def _orders(self, ready: int) -> list[str]:
        orders = {
            "folder": str(self.files.folder),
            "root": str(self.project.root),
            "workers": default_workers() if self.workers is None else self.workers,
            "idle_s": self.idle_s,
            "check_s": min(self.check_s, self.idle_s / 3),
            "grace_s": self.grace_s,
            "namespace": self.namespace,
            "supervisor": self.supervisor,
        }
        return ["--orders", json.dumps(orders), "--ready-fd", str(ready), "--detach"]

    def _hear(self, ears: int) -> str:
        """What the keeper says of its start. Silence means that it died, and its log tells why."""
        readable, _, _ = select.select([ears], [], [], _START_TIMEOUT_S)
        said = os.read(ears, 65536) if readable else b""
        if not said:
            raise ServerUnreachable(
                f"The keeper of the local stack did not start.\n{last_lines(self.files.keeper_log)}\n",
                hint=f"Read {self.files.keeper_log}, mend what it names, or set NBFLOW_REDIS_URL to a server.",
            )
        answer: dict[str, Any] = json.loads(said)
        if "url" not in answer:
            raise ServerUnreachable(answer["message"], hint=answer["hint"])
        return str(answer["url"])


def findable(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the place of this nbflow where a new interpreter would not find it (a checkout that is not
    installed)."""
    place = str(Path(nbflow.errors.__file__).resolve().parents[1])
    installed = {str(Path(folder).resolve()) for folder in (*site.getsitepackages(), site.getusersitepackages())}
    if place in installed:
        return dict(environment)
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, (place, environment.get("PYTHONPATH", ""))))}


def _usage(url: str) -> tuple[int, int]:
    """Bytes of memory and number of connections, zeros when the server does not answer now."""
    try:
        wire = connect(url, 2.0)
    except (NbflowError, OSError, ReplyError):  # it may still be loading what it had stored
        return 0, 0
    try:
        info = b"".join(wire.call("INFO", section) for section in ("memory", "clients")).decode()
    except (OSError, ReplyError):
        return 0, 0
    finally:
        wire.close()
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return int(fields.get("used_memory", 0)), int(fields.get("connected_clients", 1)) - 1


def _wait_for_end(family: Sequence[tuple[int, str]], timeout_s: float) -> bool:
    """Whether these processes have ended within the time. Locks would not tell: a next stack may hold them by then."""
    end = time.monotonic() + timeout_s
    while any(is_alive(pid, birth) for pid, birth in family):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
