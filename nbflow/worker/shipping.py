"""Carries a tape to Redis: a thread while a task runs, the worker itself before it settles, the supervisor when the
worker is dead. All go through one script that takes each byte once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbflow.store.keys import Keys
from nbflow.store.scripts import Script
from nbflow.store.wire import Wire
from nbflow.worker.records import record_text
from nbflow.worker.slots import Slots
from nbflow.worker.tape import MAX_LINES, MAX_TAPE_BYTES, Entry, Tape, cut, entries

__all__ = ["Shipper", "Shipping", "append_command", "last_words"]

SHIP_EVERY_S, _AWAY_S = 0.2, 1.0
MAX_PIECE = 256 << 10
MAX_LOGS = 100_000
"""Logs, progress and metrics that a run keeps; older ones go."""


_FULL: Entry = ("log", {"level": "warning", "message": "output beyond 64 MiB is dropped", "source": "nbflow"})
_SKIPPED: Entry = (
    "log",
    {"level": "warning", "message": "the worker died; of its output before this, some is lost", "source": "nbflow"},
)


@dataclass(frozen=True, slots=True)
class Shipping:
    """Whose tape it is: the lease under which its content counts."""

    worker: str
    job: str
    lease: int
    run: str
    task: str
    attempt: int


def append_command(script: Script, whose: Shipping, span: tuple[int, int], items: list[Entry]) -> tuple[Any, ...]:
    """The call that appends these entries, which come from the bytes of `span`."""
    flat = [text for kind, data in items for text in (kind, record_text(kind, data))]
    named: dict[str, Any] = {name: getattr(whose, name) for name in Shipping.__slots__}
    named |= {"from": span[0], "to": span[1], "max": MAX_LOGS}
    return script.command(*flat, **named)


class Shipper:
    """Carries the tape to Redis. `begin` and `end` are called around each task; between them a thread ships."""

    def __init__(
        self, tape: Tape, script: Script, slots: Slots, slot: int, learn: Callable[[], None] = lambda: None
    ) -> None:
        """`learn`: what must be masked by now, which another process may have read that writes to the tape too."""
        self._tape, self._script, self._slots, self._slot, self._learn = tape, script, slots, slot, learn
        self._whose: Shipping | None = None
        self._shipped = 0
        self._is_full = self._is_fork = False
        self._lock = threading.Lock()

    def start(self, open_wire: Callable[[], Wire]) -> None:
        threading.Thread(target=self._loop, args=(open_wire,), name="nbflow-shipper", daemon=True).start()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """A fork writes to the same tape; its parent carries it."""
        self._lock = threading.Lock()
        self._whose, self._is_fork = None, True

    def begin(self, whose: Shipping) -> None:
        if self._is_fork:
            return
        with self._lock:
            self._whose, self._shipped, self._is_full = whose, 0, False
        self._slots.ship(self._slot, 0)

    def end(self, wire: Wire) -> None:
        """Ship the rest, whole."""
        with self._lock:
            if self._whose is not None and self._tape.size() > self._shipped:
                self._ship(wire, final=True)
            self._whose = None

    def _loop(self, open_wire: Callable[[], Wire]) -> None:
        """A look every 0.2 s costs less than telling this thread of each task."""
        wire: Wire | None = None
        while True:
            time.sleep(SHIP_EVERY_S)
            if self._whose is None or self._tape.size() <= self._shipped:
                continue
            try:
                wire = wire or open_wire()
                with self._lock:
                    self._ship(wire, final=False)
            except Exception:  # noqa: BLE001 - the server is away or takes nothing now: the tape keeps what there is
                time.sleep(_AWAY_S)

    def _ship(self, wire: Wire, *, final: bool) -> None:
        size, piece = self._tape.size(), MAX_PIECE
        while self._whose is not None and self._shipped < size:
            if self._shipped >= MAX_TAPE_BYTES:
                self._append(wire, self._whose, size - self._shipped, [] if self._is_full else [_FULL])
                self._is_full = True
                return
            raw = self._tape.read(self._shipped, min(size, self._shipped + piece))
            is_rest = self._shipped + len(raw) >= size
            self._learn()  # now: what of it is a secret was learned before it was written
            items, taken = entries(raw, self._tape.mark, final=final and is_rest)
            if not taken and len(raw) >= MAX_PIECE:
                items, taken = cut(raw, self._tape.mark)
            if taken:
                self._append(wire, self._whose, taken, items)
                piece = MAX_PIECE
            elif is_rest:
                return
            else:
                piece *= 2  # a record that is longer

    def _append(self, wire: Wire, whose: Shipping, taken: int, items: list[Entry]) -> None:
        command = append_command(self._script, whose, (self._shipped, self._shipped + taken), items)
        reply = wire.ask(*command)
        if reply[0] == b"LOST":
            self._whose = None
            return
        before, self._shipped = self._shipped, int(reply[1])
        self._tape.forget(before, self._shipped)
        self._slots.ship(self._slot, self._shipped)


def last_words(ask: Callable[..., Any], script: Script, keys: Keys, *, worker: str, tape: Tape, shipped: int) -> None:
    """What the tape of a dead worker still holds goes to the log of its task, before that is given back."""
    if tape.size() <= shipped:
        return
    for execution in ask("SMEMBERS", f"{keys.rq_worker(worker)}:executions"):
        job, _, lease = execution.decode().rpartition(":")
        run, task, attempt = ask("HMGET", keys.rq_job(job), "run", "task", "attempt")
        if run and task:
            whose = Shipping(worker, job, int(lease), run.decode(), task.decode(), int(attempt))
            _say_last(ask, script, whose, tape, shipped)


def _say_last(ask: Callable[..., Any], script: Script, whose: Shipping, tape: Tape, shipped: int) -> None:
    """The worker may have died between its append and its note of it: then the server knows where to go on."""
    size = tape.size()
    for _ in range(3):
        reply = ask(*append_command(script, whose, (shipped, size), _ending(tape, shipped, size)))
        if reply[0] != b"AT" or int(reply[1]) >= size:
            return
        shipped = int(reply[1])


def _ending(tape: Tape, shipped: int, size: int) -> list[Entry]:
    """The last lines of it, and a word of it if that is not all."""
    start = max(shipped, size - MAX_PIECE)
    raw = tape.read(start, size)
    if start > shipped:
        raw = raw[raw.find(b"\n") + 1 :]
    items, _ = entries(raw, tape.mark, final=True, most=len(raw))
    if start == shipped and len(items) <= MAX_LINES:
        return items
    return [_SKIPPED, *items[-MAX_LINES:]]
