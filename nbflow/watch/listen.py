"""The one Pub/Sub connection of a process, and the one thread that reads it, however many listen.

Only that thread touches the subscription, because redis-py's is not made for two. Others change a table and wake it by a
message on a channel of its own. The thread begins with the first listener and ends by itself soon after the last.
A forked child has no such thread and shares no connection with its parent: the next listener begins anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, cast

from nbflow.errors import StoreError
from nbflow.store.connect import translated

if TYPE_CHECKING:
    from nbflow.store.connect import Store

__all__ = ["Ear", "Listener"]

TICK_S = 1.0
REST_S = 2.0
"""The thread stays so long when nobody listens any more; the next cell may follow the next run."""
BURST = 500
"""Messages that are passed on before anyone is called."""

_log = logging.getLogger("nbflow.watch")


class Ear(Protocol):
    """Who listens to a channel. All three are called by the listening thread and must return at once."""

    def heard(self, message: bytes) -> None:
        """A message came."""
        ...

    def doubt(self) -> None:
        """The subscription has (again) begun: what was sent before may have been missed."""
        ...

    def call(self) -> bool:
        """A burst of messages is over, or a second has passed. Whether to be called again without waiting."""
        ...


class Listener:
    """Passes the messages of channels on to ears."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begin_anew()
        _listeners.add(self)

    def add(self, channel: str, ear: Ear) -> None:
        """From some moment soon on the ear hears the channel; that moment is a doubt, raised at the latest now."""
        with self._lock:
            self._ears.setdefault(channel.encode(), []).append(ear)
            self._left_s = None
            self._ensure_thread()
        ear.doubt()  # the channel may be confirmed long since, for another ear
        self.wake()

    def remove(self, channel: str, ear: Ear) -> None:
        with self._lock:
            ears = self._ears.get(channel.encode(), [])
            if ear in ears:
                ears.remove(ear)
            if not ears:
                self._ears.pop(channel.encode(), None)
            if not self._ears:
                self._left_s = time.monotonic()

    def close(self) -> None:
        """End the thread and its connection, and wait for that. Listening again begins anew."""
        with self._lock:
            thread, self._ending = self._thread, True
            self._ears.clear()
        self.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def wake(self) -> None:
        self._bell.set()
        with contextlib.suppress(StoreError), translated(self._store.url):
            client: Any = self._store.client
            client.publish(self._own_channel, b"")

    @property
    def is_listening(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._bell = threading.Event()
        self._ears: dict[bytes, list[Ear]] = {}
        self._thread: threading.Thread | None = None
        self._ending = False
        self._left_s: float | None = None
        self._own_channel = self._store.keys.events_channel(f"-{uuid.uuid4().hex}")

    def after_fork(self) -> None:
        """In the child: nobody listens yet. The parent's ears have locks that its other threads may have held."""
        self._begin_anew()

    def _ensure_thread(self) -> None:
        if not self.is_listening:
            self._ending = False
            thread = threading.Thread(target=self._listen, name="nbflow-listener", daemon=True)
            thread.start()  # an interrupt may come before it: then nobody listens, and nobody is joined
            self._thread = thread

    def _listen(self) -> None:
        pause_s = 0.05
        while not self._should_end():
            try:
                with translated(self._store.url), _subscription(self._store) as pubsub:
                    pause_s = 0.05
                    self._listen_on(pubsub)
            except Exception as error:  # noqa: BLE001 - each ear reads on its own meanwhile, or says that nothing answers
                _log.debug("listening failed, again in %.2f s: %s", pause_s, error, exc_info=_is_strange(error))
                self._bell.wait(pause_s)
                self._bell.clear()
                pause_s = min(2 * pause_s, 2.0)

    def _listen_on(self, pubsub: Any) -> None:
        pubsub.subscribe(self._own_channel)
        subscribed: set[bytes] = set()
        again = False
        while not self._should_end():
            self._subscribe(pubsub, subscribed)
            message = _there(pubsub) if again else pubsub.get_message(timeout=TICK_S)
            passed_on = 0
            while message is not None:
                self._pass_on(message)
                passed_on += 1
                message = _there(pubsub) if passed_on < BURST else None
            again = sum(self._call(channel, ear) for channel, ear in self._everyone()) > 0  # no any(): each is called

    def _call(self, channel: bytes, ear: Ear) -> bool:
        try:
            return ear.call()
        except Exception:  # noqa: BLE001 - one ear's mistake must not deafen the others
            self._leave_out(channel, ear)
            return False

    def _leave_out(self, channel: bytes, ear: Ear) -> None:
        _log.exception("what listens to %s failed and is left out from now on", channel.decode())
        self.remove(channel.decode(), ear)

    def _subscribe(self, pubsub: Any, subscribed: set[bytes]) -> None:
        with self._lock:
            wanted = set(self._ears)
        if new := wanted - subscribed:
            pubsub.subscribe(*new)
        if old := subscribed - wanted:
            pubsub.unsubscribe(*old)
        subscribed ^= new | old

    def _pass_on(self, message: dict[str, Any]) -> None:
        channel = cast("bytes", message["channel"])
        with self._lock:
            ears = list(self._ears.get(channel, ()))
        for ear in ears:
            try:
                if message["type"] == "message":
                    ear.heard(message["data"])
                elif message["type"] == "subscribe":
                    ear.doubt()
            except Exception:  # noqa: BLE001 - as above
                self._leave_out(channel, ear)

    def _everyone(self) -> list[tuple[bytes, Ear]]:
        with self._lock:
            return [(channel, ear) for channel, ears in self._ears.items() for ear in ears]

    def _should_end(self) -> bool:
        """Under the lock, so that no listener comes between the decision and its record."""
        with self._lock:
            rested = self._left_s is not None and time.monotonic() - self._left_s > REST_S
            if self._thread is not threading.current_thread():
                return True
            if self._ending or (rested and not self._ears):
                self._thread = None
                return True
            return False


def _there(pubsub: Any) -> Any:
    """The next message if it has come, or begun to. Not by a time-out of 0: redis-py would take a message of which only a
    part is there for a broken connection."""
    return pubsub.get_message(timeout=TICK_S) if pubsub.connection.can_read(timeout=0) else None


@contextlib.contextmanager
def _subscription(store: Store) -> Generator[Any]:
    client: Any = store.blocking()
    pubsub: Any = client.pubsub()
    try:
        yield pubsub
    finally:
        pubsub.close()
        client.close()


def _is_strange(error: Exception) -> bool:
    return not isinstance(error, StoreError)


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()


def _after_fork() -> None:
    for listener in list(_listeners):
        listener.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
