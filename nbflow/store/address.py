"""Where a server is and who we are there: URLs read as redis-py reads them, and the socket that is opened to it.

A peer that vanished without a word (a laptop asleep, a firewall that forgot us) is noticed within about 15 s: an idle
connection by keepalive, one with unanswered bytes by TCP_USER_TIMEOUT. Speaks no protocol.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlparse

from nbflow.errors import ServerUnreachable

__all__ = ["CONNECT_S", "Address", "keepalive_options", "open_socket", "parse_url", "shown_url"]

CONNECT_S = 10.0
"""So long a server may take to accept a connection, and to answer each word of the greeting."""
_IDLE_S, _INTERVAL_S, _PROBES = 6, 3, 3
_UNANSWERED_MS = 15_000
_DARWIN_KEEPALIVE = 0x10  # Python names TCP_KEEPALIVE from 3.10 on, where the system's headers had it
_PASSWORD = re.compile(r"([?&]password=)[^&#]*")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and who we are there."""

    path: str = ""
    host: str = "127.0.0.1"
    port: int = 6379
    tls: bool = False
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    verify: bool = True

    @property
    def credentials(self) -> tuple[str, ...]:
        """What AUTH is to say, as redis-py says it: a user alone has the empty password. Nothing: no AUTH."""
        if self.username:
            return (self.username, self.password)
        return (self.password,) if self.password else ()


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
    """The part before the `@` goes before the query, for the database it is the other way round: so does redis-py."""
    parts = urlparse(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    username = unquote(parts.username or "") or query.get("username", "")
    password = unquote(parts.password or "") or query.get("password", "")
    if parts.scheme == "unix":
        return Address(path=unquote(parts.path), db=int(query.get("db", "0")), username=username, password=password)
    if parts.scheme not in ("redis", "rediss"):
        raise ServerUnreachable(
            f"{shown_url(url)!r} is no address of a server.",
            hint="Use redis://host:port/db, rediss://… for TLS, or unix:///path/to/socket.",
        )
    return Address(
        host=unquote(parts.hostname or "") or query.get("host", "127.0.0.1"),
        port=parts.port or int(query.get("port", "6379")),
        tls=parts.scheme == "rediss",
        db=int(query.get("db") or unquote(parts.path).lstrip("/") or "0"),
        username=username,
        password=password,
        ca_file=query.get("ssl_ca_certs", ""),
        verify=query.get("ssl_cert_reqs", "required") != "none",
    )


def shown_url(url: str) -> str:
    """The URL without its password, for messages."""
    shown = _PASSWORD.sub(r"\1***", url)
    password = urlparse(url).password
    return shown.replace(f":{password}@", ":***@", 1) if password else shown


def keepalive_options() -> dict[int, int]:
    """Options of TCP by which a dead peer is noticed: those that this system knows."""
    options: dict[int, int] = {}
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE_S),
        ("TCP_KEEPINTVL", _INTERVAL_S),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", _UNANSWERED_MS),
    ):
        number: int | None = getattr(socket, name, None)
        if number is not None:
            options[number] = value
    if sys.platform == "darwin":
        options[getattr(socket, "TCP_KEEPALIVE", _DARWIN_KEEPALIVE)] = _IDLE_S
    return options


def open_socket(address: Address, timeout: float | None) -> socket.socket:
    """A connected socket, with TLS if the address asks for it. `timeout` bounds each step of that, and each read."""
    plain = _connected(address, timeout)
    if not address.tls:
        return plain
    context = ssl.create_default_context(cafile=address.ca_file or None)
    if not address.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=address.host)
    except OSError:
        plain.close()
        raise


def _connected(address: Address, timeout: float | None) -> socket.socket:
    if not address.path:
        plain = socket.create_connection((address.host, address.port), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in keepalive_options().items():
            plain.setsockopt(socket.IPPROTO_TCP, option, value)
        return plain
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.settimeout(timeout)
    try:
        plain.connect(address.path)
    except OSError:
        plain.close()
        raise
    return plain
