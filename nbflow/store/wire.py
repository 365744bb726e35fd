"""One raw connection for the hot loop: a socket and hiredis, no pool, no retry wrapper, no metrics.

Measured on a chain of empty steps, two workers, loopback: 0.166 ms a hop through this, 0.184 ms through a redis-py
connection. Everything that is not a worker's or supervisor's loop uses redis-py (`connect.py`).
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import hiredis

from nbflow.errors import AccessDenied, ServerTooOld, ServerUnreachable, StoreError
from nbflow.store.address import CONNECT_S, Address, open_socket, parse_url, shown_url
from nbflow.store.scripts import Scripts

__all__ = [
    "Address",
    "ReplyError",
    "Wire",
    "connect",
    "denied",
    "is_passing",
    "parse_url",
    "refusal",
    "shown_url",
    "unreachable",
]

ReplyError = hiredis.HiredisError
_pack: Callable[..., bytes] = hiredis.pack_command  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
_CLIENT_NAME = os.environ.get("NBFLOW_CLIENT_NAME", "")
"""By which a local stack knows its own workers. Read at import: a worker removes NBFLOW_* before it connects."""
_DENIED = ("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR invalid password")
LATE_S = 5.0
"""So much later than it promised may the server's answer to a blocking command come."""
AGAIN_S = 4.0
"""One of many tries to connect takes no longer, so that `gives_up` is asked in time."""
_PASSING = ("OOM", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN")


def is_passing(error: BaseException) -> bool:
    """Whether the server refused only for now: it is full, starts, or changes its role. Nothing was done then."""
    return str(error).startswith(_PASSING)


def unreachable(url: str, error: BaseException) -> ServerUnreachable:
    """Nothing answers, as a sentence."""
    return ServerUnreachable(
        f"No server answers at {shown_url(url)} ({str(error).rstrip('.')}).",
        hint="Start it, or correct NBFLOW_REDIS_URL; without that variable nbflow starts a server of its own.",
    )


def denied(url: str, error: BaseException) -> AccessDenied:
    """Who we are is not accepted, or may not do what nbflow needs, as a sentence."""
    said = str(error).rstrip(".")
    if "permission" in said:
        return AccessDenied(
            f"The user of {shown_url(url)} lacks a right that nbflow needs ({said.removeprefix('NOPERM ')}).",
            hint="Give it all commands, keys and channels of the namespace, or name another user in NBFLOW_REDIS_URL.",
        )
    return AccessDenied(
        f"The server at {shown_url(url)} refuses the user or the password ({said}).",
        hint="Correct the user and password in NBFLOW_REDIS_URL.",
    )


def refusal(url: str, error: BaseException) -> StoreError:
    """An error reply of the server, as a sentence."""
    said = str(error).rstrip(".")
    if said.startswith("OOM") or "'maxmemory'" in said:
        return StoreError(
            f"The server at {shown_url(url)} is full: it has used up its maxmemory.",
            hint="Give it more memory, or remove what it need not keep; workers hold their results until there is room.",
        )
    if said.startswith(_DENIED):
        return denied(url, error)
    if "unknown command" in said and "HELLO" in said:
        return ServerTooOld(
            f"The server at {shown_url(url)} is older than Redis 6: it does not know HELLO.",
            hint="nbflow needs Redis 7.0 or newer, or Valkey 7.2 or newer: update the server or use another.",
        )
    return StoreError(f"The server at {shown_url(url)} refused a command: {said}.", hint="Look at the server's log.")


def connect(url: str, timeout: float | None = None, scripts: Scripts | None = None) -> Wire:
    """A wire to the server. `timeout` bounds each read in seconds; None waits as long as it takes. Scripts that the server
    does not know (any more) are sent to it."""
    return Wire(url, timeout, scripts)


class Wire:
    """Sends one command and reads its reply, as bytes. An error reply is raised as `ReplyError`; a broken connection as
    `OSError`: then `again` repeats the question on a new one. `ask` does so by itself.

    `call`, `call_within`, `ask` and `again` may be used by several threads: one conversation at a time, and an answer that
    nobody waited for to its end takes its connection with it. A subscription (`send`, `arrived`) is one thread's alone.
    A forked child does not speak on its parent's connection: it opens its own when it first says something.
    """

    def __init__(self, url: str, timeout: float | None = None, scripts: Scripts | None = None) -> None:
        self.url = url
        self.timeout = timeout
        self.scripts = scripts
        self.gives_up: Callable[[], bool] = lambda: False
        self._lock = threading.RLock()
        self._open()
        _wires.add(self)

    def _open(self, limit_s: float = CONNECT_S) -> None:
        address = parse_url(self.url)
        self._reader = hiredis.Reader()
        try:
            self._socket: Any = open_socket(address, limit_s)
            self._greet(address)
            self._socket.settimeout(self.timeout)
        except OSError as error:
            raise unreachable(self.url, error) from error
        except ReplyError as error:
            self.close()
            if is_passing(error):
                raise
            raise refusal(self.url, error) from error

    def _greet(self, address: Address) -> None:
        if address.credentials:
            self.call("AUTH", *address.credentials)
        else:
            self.call("PING")  # a server that wants a password says so here
        if address.db:
            self.call("SELECT", str(address.db))
        if _CLIENT_NAME:
            self.call("CLIENT", "SETNAME", _CLIENT_NAME)

    def call(self, *args: Any) -> Any:
        packed = _pack(args)
        with self._lock:
            try:
                self._socket.sendall(packed)
                return self.read()
            except hiredis.ReplyError as error:
                if self._has_taught(args, error):
                    return self.call(*args)
                raise
            except BaseException:  # the answer may still come, and would be taken for that of the next question
                self.close()
                raise

    def _has_taught(self, args: tuple[Any, ...], error: Exception) -> bool:
        """The server did not know the script, as after a restart; now it does."""
        if self.scripts is None or args[0] != "EVALSHA" or not str(error).startswith("NOSCRIPT"):
            return False
        text = self.scripts.text_of(args[1])
        return text is not None and self.call("SCRIPT", "LOAD", text) is not None

    def call_within(self, seconds: float, *args: Any) -> Any:
        """`call`, for what the server answers after so many seconds at the latest (a pop that blocks): when nothing has
        come 5 s later, `TimeoutError`, which is an `OSError`, and the connection is given up."""
        with self._lock:
            self._socket.settimeout(seconds + LATE_S)
            try:
                return self.call(*args)
            finally:
                with contextlib.suppress(OSError):  # given up
                    self._socket.settimeout(self.timeout)

    def ask(self, *args: Any) -> Any:
        """What may be said twice: said again, with patience, when its answer got lost or the server cannot take it now."""
        with self._lock:
            try:
                return self.call(*args)
            except OSError:
                return self.again(*args)
            except ReplyError as error:
                if not is_passing(error):
                    raise
                return self.again(*args)

    def send(self, *args: Any) -> None:
        """Without reading the reply (subscriptions)."""
        self._socket.sendall(_pack(args))

    def read(self) -> Any:
        reply = self._reader.gets()
        while reply is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("closed by the server")
            self._reader.feed(data)
            reply = self._reader.gets()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def arrived(self) -> list[Any]:
        """What has come by now, after the socket became readable."""
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the server")
        self._reader.feed(data)
        replies: list[Any] = []
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)
        return replies

    def again(self, *args: Any, patience_s: float | None = None) -> Any:
        """The connection broke: a new one, with patience, and the same question. `gives_up` is asked between two tries."""
        with self._lock:
            return self._again(args, math.inf if patience_s is None else time.monotonic() + patience_s)

    def _again(self, args: tuple[Any, ...], end: float) -> Any:
        wait = 0.02
        while True:
            try:
                self.close()
                self._open(AGAIN_S)
                return self.call(*args)
            except (OSError, ServerUnreachable):
                if self.gives_up() or time.monotonic() > end:
                    raise
            except ReplyError as error:
                if not is_passing(error) or time.monotonic() > end:
                    raise
            time.sleep(wait)
            wait = min(wait * 2, 1.0)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def after_fork(self) -> None:
        """In the child: the parent's connection is left alone, and so is a lock that another of its threads may hold."""
        self._lock = threading.RLock()
        if self.fileno() >= 0:
            self.close()  # this process's copy of the descriptor; the parent's stays open
            self._socket = _Unopened(self)

    def open_anew(self) -> Any:
        """The connection of a child, opened now."""
        self._open()
        return self._socket


class _Unopened:
    """Stands for the socket of a forked child until that is needed, so that no call has to ask which process it is in."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def sendall(self, packed: bytes) -> None:
        self._wire.open_anew().sendall(packed)

    def recv(self, size: int) -> bytes:
        return self._wire.open_anew().recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self._wire.open_anew().settimeout(seconds)

    def fileno(self) -> int:
        return self._wire.open_anew().fileno()

    def close(self) -> None:
        """There is nothing to close."""


_wires: weakref.WeakSet[Wire] = weakref.WeakSet()


def _after_fork() -> None:
    for wire in list(_wires):
        wire.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
