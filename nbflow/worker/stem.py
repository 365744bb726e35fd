"""The process that those of isolated attempts are forked from: it has imported what they need and executed nothing, so that
each begins with nothing of another in it, at the price of a fork. `python -m` this, with descriptors, by a worker.

It has one thread. What forks while others run leaves their locks held for ever, and a thread pool of a library (polars,
OpenMP) that waits for threads that are not there: a worker that executed steps cannot be forked from. (decision 0028)
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import Any, NoReturn

from nbflow.errors import ServerUnreachable
from nbflow.model.signing import Signer
from nbflow.settings import Settings, settings
from nbflow.store.keys import Keys
from nbflow.store.scripts import Scripts
from nbflow.store.wire import ReplyError, Wire, connect, is_passing
from nbflow.worker.ahead import import_ahead
from nbflow.worker.bench import Bench
from nbflow.worker.exchange import Exchange
from nbflow.worker.interrupts import forget_in_children
from nbflow.worker.lifeline import die_with_gate, die_with_parent
from nbflow.worker.orders import INTERRUPT, KILL, STATUS
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape
from nbflow.worker.values import open_vault

__all__ = ["main"]

LOOK_S = 1.0


class _Stem:
    """Forks a process for each order, one at a time, and says how it ended."""

    def __init__(self, fds: list[int]) -> None:
        slots, tape, self.values, exchange, self.orders, self.answers, self.gate = fds
        self.slots, self.tape_fd, self.exchange = Slots(slots), tape, Exchange(exchange)
        self.process = 0

    def listen(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _stay)
        signal.signal(INTERRUPT, self._pass_on)
        signal.signal(KILL, self._kill)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (INTERRUPT, KILL))

    def serve(self) -> int:
        """Until the worker closes its end."""
        attempt = self._attempt(json.loads(self._line()))
        while True:
            if not select.select([self.orders], [], [], LOOK_S)[0]:
                import_ahead(self.slots.packages)
            elif os.read(self.orders, 1):
                self._fork(attempt)
                import_ahead(self.slots.packages)  # now: the next would do it itself, and each after it
            else:
                return 0

    def _attempt(self, told: dict[str, Any]) -> _Attempt:
        """What all of them have."""
        os.environ.update(told["secrets"])
        chosen = settings()
        open_vault(self.values)
        scripts = Scripts(Keys(chosen.namespace))
        scripts.prepare("state", "own", "recall")
        return _Attempt(self, chosen, scripts, Tape(self.tape_fd, mark=told["mark"].encode()), told["slot"])

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self.orders, 1)  # what comes behind it is orders
            if not piece:
                os._exit(0)
            line += piece
        return line

    def _fork(self, attempt: _Attempt) -> None:
        gc.collect()
        gc.freeze()  # a collection in the process would else write to all pages that it shares
        stem = os.getpid()
        with warnings.catch_warnings():  # Python counts threads of libraries that look after their forks
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            attempt.run(stem)
        self.process = process
        self._wait(process)

    def _wait(self, process: int) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        self.process = 0  # from the next line on its pid may be anybody's
        _, status, usage = os.wait4(process, 0)
        os.write(self.answers, STATUS.pack(status, usage.ru_maxrss))

    def _pass_on(self, *_: object) -> None:
        self._signal(INTERRUPT)

    def _kill(self, *_: object) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, number)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The process of one attempt."""

    stem: _Stem
    chosen: Settings
    scripts: Scripts
    tape: Tape
    slot: int

    def run(self, stem: int) -> NoReturn:
        """What the step left running ends with this process: its threads are not waited for."""
        code = 1
        try:
            die_with_parent(stem)
            for fd in (self.stem.orders, self.stem.answers):
                os.close(fd)
            die_with_gate(self.stem.gate)
            self._execute()
            code = 0
        except BaseException:  # noqa: BLE001 - it must not come back to where it was forked
            traceback.print_exc()
        finally:
            os._exit(code)

    def _execute(self) -> None:
        chosen = self.chosen
        bench = Bench(
            _patiently(str(chosen.redis_url), self.scripts), Keys(chosen.namespace), self.scripts,
            signer=Signer(chosen.secret_bytes or b""), artifacts=chosen.artifacts or "", tape=self.tape, slots=self.stem.slots,
            slot=self.slot,
        )  # fmt: skip
        signal.signal(KILL, signal.SIG_DFL)
        bench.interrupts.install()
        forget_in_children()
        bench.capture.install()
        faulthandler.enable(file=2)  # a crash says at which line of the step it came
        _seed()
        job, worker, lease = self.stem.exchange.take_job()
        self.stem.exchange.put_ending(bench.execute(job, worker, lease))


def _patiently(url: str, scripts: Scripts) -> Wire:
    """A server that is away just now is no death of the process."""
    wait_s = 0.02
    while True:
        try:
            return connect(url, scripts=scripts)
        except ServerUnreachable:
            pass
        except ReplyError as error:
            if not is_passing(error):
                raise
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, 1.0)


def _seed() -> None:
    """Python's generator begins anew in each fork by itself; numpy's, if it was imported ahead, must be told."""
    random: Any = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def _stay(*_: object) -> None:
    """A service manager sends SIGTERM to all processes of a service: the worker lets its task end, and so do we."""


def main() -> int:
    """`python -m nbflow.worker.stem PARENT SLOTS TAPE VALUES EXCHANGE ORDERS ANSWERS GATE`; the rest by NBFLOW_* and the
    first line of orders."""
    parent, *fds = map(int, sys.argv[1:])
    die_with_parent(parent)
    for fd in fds:
        os.set_inheritable(fd, False)
    stem = _Stem(fds)
    stem.listen()
    if sys.platform != "linux":
        die_with_gate(stem.gate)
    return stem.serve()


if __name__ == "__main__":
    sys.exit(main())
