"""One raw connection for the hot loop: a socket and hiredis, no pool, no retry wrapper, no metrics.

Measured on a chain of empty steps, two workers, loopback: 0.166 ms a hop through this, 0.184 ms through a redis-py
connection. Everything that is not a worker's or supervisor's loop uses redis-py (`connect.py`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import hiredis

from nbflow.errors import AccessDenied, ServerTooOld, ServerUnreachable, StoreError

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
_PASSING = ("OOM", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and who we are there."""

    path: str = ""
    host: str = "127.0.0.1"
    port: int = 6379
    tls: bool = False
    db: int = 0
    username: str = ""
    password: str = ""
    ca_file: str = ""
    verify: bool = True


def parse_url(url: str) -> Address:
    """`redis://`, `rediss://` or `unix://` as an address."""
    try:
        return _address(url)
    except ValueError as error:  # a port or a database that is no number
        raise ServerUnreachable(
            f"{shown_url(url)!r} is no address of a server: {error}.",
            hint="Use redis://host:port/db, rediss://… for TLS, or unix:///path/to/socket.",
        ) from error


def _address(url: str) -> Address:
    parts = urlparse(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix":
        return Address(path=unquote(parts.path), db=int(query.get("db", "0")), username=username, password=password)
    if parts.scheme not in ("redis", "rediss"):
        raise ServerUnreachable(
            f"{shown_url(url)!r} is no address of a server.",
            hint="Use redis://host:port/db, rediss://… for TLS, or unix:///path/to/socket.",
        )
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 6379,
        tls=parts.scheme == "rediss",
        db=int(parts.path.lstrip("/") or query.get("db", "0")),
        username=username,
        password=password,
        ca_file=query.get("ssl_ca_certs", ""),
        verify=query.get("ssl_cert_reqs", "required") != "none",
    )


def shown_url(url: str) -> str:
    """The URL without its password, for messages."""
    parts = urlparse(url)
    if not parts.password:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


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


def connect(url: str, timeout: float | None = None) -> Wire:
    """A wire to the server. `timeout` bounds each read in seconds; None waits as long as it takes."""
    return Wire(url, timeout)


class Wire:
    """Sends one command and reads its reply, as bytes. An error reply is raised as `ReplyError`; a broken connection as
    `OSError`: then `again` repeats the question on a new one. `ask` does so by itself."""

    def __init__(self, url: str, timeout: float | None = None) -> None:
        self.url = url
        self.timeout = timeout
        self.on_open: Callable[[Wire], None] = lambda _: None
        self.gives_up: Callable[[], bool] = lambda: False
        self._open()

    def _open(self) -> None:
        address = parse_url(self.url)
        try:
            self._socket = _open_socket(address, self.timeout)
        except OSError as error:
            raise unreachable(self.url, error) from error
        self._reader = hiredis.Reader()
        try:
            self._greet(address)
        except ReplyError as error:
            if is_passing(error):
                raise
            raise refusal(self.url, error) from error

    def _greet(self, address: Address) -> None:
        if address.password:
            who = (address.username, address.password) if address.username else (address.password,)
            self.call("AUTH", *who)
        else:
            self.call("PING")  # a server that wants a password says so here
        if address.db:
            self.call("SELECT", str(address.db))
        if _CLIENT_NAME:
            self.call("CLIENT", "SETNAME", _CLIENT_NAME)

    def call(self, *args: Any) -> Any:
        self._socket.sendall(_pack(args))
        return self.read()

    def ask(self, *args: Any) -> Any:
        """What may be said twice: said again, with patience, when its answer got lost or the server cannot take it now."""
        try:
            return self.call(*args)
        except OSError:
            return self.again(*args)
        except ReplyError as error:
            if str(error).startswith("NOSCRIPT"):
                self.on_open(self)
                return self.call(*args)
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
        wait, end = 0.02, None if patience_s is None else time.monotonic() + patience_s
        while True:
            try:
                self.close()
                self._open()
                self.on_open(self)
                return self.call(*args)
            except (OSError, ServerUnreachable):
                if self.gives_up() or (end is not None and time.monotonic() > end):
                    raise
            except ReplyError as error:
                if not is_passing(error) or (end is not None and time.monotonic() > end):
                    raise
            time.sleep(wait)
            wait = min(wait * 2, 1.0)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _open_socket(address: Address, timeout: float | None) -> socket.socket:
    if address.path:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.connect(address.path)
        except OSError:
            plain.close()
            raise
    else:
        plain = socket.create_connection((address.host, address.port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.settimeout(timeout)
    if not address.tls:
        return plain
    context = ssl.create_default_context(cafile=address.ca_file or None)
    if not address.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=address.host)
