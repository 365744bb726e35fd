"""Following runs: their events from any id on, as they happen, without gap or double (the law is in `seam.py`).

Whoever iterates reads for himself, at his own speed; the listening thread only drops live messages into his seam and
never waits for anyone. For widgets and streams of HTTP, which have no thread to spare, `subscribe` calls back from the
listening thread itself, a batch at a time. An ended run is read without listening at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from nbflow.errors import CommandRefused, ServerUnreachable, StillRunning, UnknownRun
from nbflow.model.events import Event
from nbflow.store.log import RunLog
from nbflow.watch.listen import Listener
from nbflow.watch.tail import PATIENCE_S, Ring, Tail

if TYPE_CHECKING:
    from nbflow.store.connect import Store

__all__ = ["Follower", "Following", "Subscription"]

GLANCE_S = 0.5
"""Nobody waits longer at a time: where waits are not interruptible (Windows), Ctrl-C is seen between two."""


class Follower:
    """Follows runs of one store with one thread and one connection. Make one a process.

    After a fork the child begins anew with what it follows then. (What it went on iterating would still be read, every
    few seconds.)
    """

    def __init__(self, store: Store) -> None:
        self._keys = store.keys
        self.refuse_silence = store.refuse_silence
        self._log = RunLog(store)
        self._listener = Listener(store)
        self.is_closed = False

    def follow(self, run_id: str, after: str = "0-0", timeout: float | None = None) -> Following:
        """The events of a run after an id, live, up to its end: for `for` and for `async for`.

        `TimeoutError` if the run has not ended after `timeout` seconds; `UnknownRun` if there is none, or it is deleted.
        """
        return Following(self, run_id, after, timeout)

    def subscribe(self, run_id: str, callback: Callable[[list[Event]], None], after: str = "0-0") -> Subscription:
        """Have a function called with the events of a run after an id, as they come, a batch a call.

        It is called by the listening thread and must return at once. It ends with the run, or with `close()`.
        """
        self.refuse_if_closed()
        return Subscription(self.tail(run_id, after, lambda: None), callback, self)

    def subscribe_life(
        self, callback: Callable[[list[dict[str, str]]], None], doubt: Ring | None = None
    ) -> Callable[[], None]:
        """Have a function called with the starts and ends of all runs (`run`, `flow`, `type`); returns what ends it.

        Unlike events they are not kept: `doubt` is called when some may have been missed, and the index is to be read.
        """
        self.refuse_if_closed()
        ear = _LifeEar(callback, doubt or (lambda: None))
        channel = self._keys.life_channel()
        self._listener.add(channel, ear)
        return lambda: self._listener.remove(channel, ear)

    def close(self) -> None:
        """End the thread and the connection. Who still iterates is told so."""
        self.is_closed = True
        self._listener.close()

    @property
    def is_listening(self) -> bool:
        return self._listener.is_listening

    def tail(self, run_id: str, after: str, ring: Ring) -> Tail:
        return Tail(self._log, run_id, after, ring)

    def attach(self, tail: _EarOfRun) -> None:
        self._listener.add(self._keys.events_channel(tail.run_id), tail)

    def detach(self, tail: _EarOfRun) -> None:
        self._listener.remove(self._keys.events_channel(tail.run_id), tail)

    def refuse_if_closed(self) -> None:
        if self.is_closed:
            raise CommandRefused(
                "This nbflow was closed and follows nothing.", hint="Make another: nbflow.connect(url)."
            )


class _EarOfRun(Protocol):
    @property
    def run_id(self) -> str: ...
    def heard(self, message: bytes) -> None: ...
    def doubt(self) -> None: ...
    def call(self) -> bool: ...


class Following:
    """The events of a run as they come. `for event in …` and `async for event in …` both work."""

    def __init__(self, follower: Follower, run_id: str, after: str, timeout: float | None) -> None:
        def make_walk(ring: Ring) -> _Walk:
            if timeout is not None:
                follower.refuse_silence(max(0.05, timeout))
            return _Walk(follower, follower.tail(run_id, after, ring), timeout)

        self._make_walk = make_walk
        self._events = self._iterate()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __aiter__(self) -> AsyncGenerator[Event]:
        return self._aiterate()

    def close(self) -> None:
        """Stop following."""
        self._events.close()

    def _iterate(self) -> Generator[Event]:
        bell = threading.Event()
        with contextlib.closing(self._make_walk(bell.set)) as walk:
            while (events := walk.step()) is not None:
                yield from events
                if not events and (wait_s := walk.wait_s()):
                    bell.wait(wait_s)
                    bell.clear()

    async def _aiterate(self) -> AsyncGenerator[Event]:
        bell, loop = asyncio.Event(), asyncio.get_running_loop()

        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(bell.set)

        with contextlib.closing(await asyncio.to_thread(self._make_walk, ring)) as walk:
            while (events := await _astep(walk)) is not None:
                for event in events:
                    yield event
                if not events and (wait_s := walk.wait_s()):
                    await _await_bell(bell, wait_s)


async def _await_bell(bell: asyncio.Event, wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(bell.wait(), wait_s)
    bell.clear()


async def _astep(walk: _Walk) -> list[Event] | None:
    return await asyncio.to_thread(walk.step) if walk.must_read else walk.step()


class _Walk:
    """What an iteration does between two waits, whoever waits and however."""

    def __init__(self, follower: Follower, tail: Tail, timeout: float | None) -> None:
        self._follower = follower
        self._tail = tail
        self._attached = False
        self._timeout = timeout
        self._began_s = time.monotonic()
        self._trouble_s: float | None = None
        self._has_read = False

    @property
    def must_read(self) -> bool:
        return self._tail.must_read

    def step(self) -> list[Event] | None:
        """Events; none of them: wait, then step again; None: it is over."""
        self._follower.refuse_if_closed()
        self._refuse_if_late()
        try:
            if self._timeout is not None and self._tail.will_ask:  # a read would wait longer for a silent server
                self._follower.refuse_silence(max(0.05, self._began_s + self._timeout - time.monotonic()))
            self._tail.reassure()
            events = self._tail.fetch()
        except ServerUnreachable as error:
            self._bear(error)
            return []
        self._trouble_s, self._has_read = None, True
        if events:
            return events
        if self._tail.is_finished:
            return None
        if not self._attached:  # only now: an ended run needs no ear
            self._attached = True
            self._follower.attach(self._tail)
        return []

    def wait_s(self) -> float:
        """How long to wait for the bell."""
        if self._trouble_s is not None:
            return 0.25
        if self._tail.has_more:
            return 0.0
        wait_s = GLANCE_S
        if self._timeout is not None:
            wait_s = min(wait_s, max(0.001, self._began_s + self._timeout - time.monotonic()))
        return wait_s

    def close(self) -> None:
        if self._attached:
            self._follower.detach(self._tail)

    def _bear(self, error: ServerUnreachable) -> None:
        now = time.monotonic()
        self._trouble_s = self._trouble_s or now
        is_late = self._timeout is not None and now - self._began_s >= self._timeout
        if is_late or now - self._trouble_s > PATIENCE_S:
            raise error

    def _refuse_if_late(self) -> None:
        if self._timeout is None or self._tail.end is not None or not self._has_read:
            return
        if time.monotonic() - self._began_s >= self._timeout:
            raise StillRunning(
                f"The run of {self._tail.flow!r} has not ended within {self._timeout:g} s. It goes on.",
                hint="Wait longer, or look at run.tasks.",
            )


class Subscription:
    """Calls a function with a run's events until the run is over or `close()` is called."""

    def __init__(self, tail: Tail, callback: Callable[[list[Event]], None], follower: Follower) -> None:
        self.run_id = tail.run_id
        self.is_closed = False
        self._tail = tail
        self._callback = callback
        self._follower = follower
        follower.attach(self)

    def heard(self, message: bytes) -> None:
        self._tail.heard(message)

    def doubt(self) -> None:
        self._tail.doubt()

    def call(self) -> bool:
        if self.is_closed:
            return False
        try:
            self._tail.reassure()
            events = self._tail.fetch()
            if events:
                self._callback(events)
        except ServerUnreachable:
            return False  # a tick later again
        except UnknownRun:
            self.close()  # deleted: nothing more will come
        if self._tail.is_finished:
            self.close()
        return not self.is_closed and self._tail.has_more

    def close(self) -> None:
        """No further call begins; one that runs at this moment comes to its end."""
        self.is_closed = True
        self._follower.detach(self)


class _LifeEar:
    """Collects the news of a burst for one call."""

    def __init__(self, callback: Callable[[list[dict[str, str]]], None], doubt: Ring) -> None:
        self._callback = callback
        self._doubt = doubt
        self._news: list[dict[str, str]] = []

    def heard(self, message: bytes) -> None:
        news = _news(message)
        self._doubt() if news is None else self._news.append(news)

    def doubt(self) -> None:
        self._doubt()

    def call(self) -> bool:
        news, self._news = self._news, []
        if news:
            self._callback(news)
        return False


def _news(message: bytes) -> dict[str, str] | None:
    """None: not ours. Anybody who reaches the server may publish anything."""
    try:
        raw: Any = json.loads(message)
        return raw if all(isinstance(raw[name], str) for name in ("run", "flow", "type")) else None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
