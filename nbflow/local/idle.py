"""Whether anybody needs the stack: someone connected, something running, something scheduled, something queued.

The keeper asks this; it decides nothing. What the stack's own processes hold open does not count: their connections
bear the name that the keeper gave them (`NBFLOW_CLIENT_NAME`), or the name of a registered worker, which RQ sets.
"""

from __future__ import annotations

from typing import Any, Protocol

from nbflow.store.keys import RQ, Keys

__all__ = ["OWN_NAME", "Asking", "foreign_clients", "what_is_going_on"]

OWN_NAME = "nbflow-local"
"""What the stack's own connections are called."""


class Asking(Protocol):
    """A connection to the server."""

    def call(self, *args: Any) -> Any: ...


def what_is_going_on(server: Asking, keys: Keys) -> str:
    """What keeps the stack needed, in a few words; empty when nothing does."""
    if strangers := foreign_clients(_text(server.call("CLIENT", "LIST")), _workers(server)):
        return f"{strangers} connected"
    if running := int(server.call("ZCARD", keys.runs("running"))):
        return f"{running} running"
    timers = int(server.call("ZCARD", keys.timers())) + int(server.call("ZCARD", keys.firings()))
    timers += int(server.call("ZCOUNT", keys.schedules(), "-inf", "(+inf"))
    if timers:
        return f"{timers} scheduled"
    queued = sum(int(server.call("LLEN", queue)) for queue in server.call("SMEMBERS", f"{RQ}:queues"))
    return f"{queued} queued" if queued else ""


def foreign_clients(listing: str, workers: frozenset[str] = frozenset()) -> int:
    """How many connections of a CLIENT LIST are neither the stack's own nor a registered worker's."""
    names = [_name(line) for line in listing.splitlines() if line.strip()]
    return sum(not name.startswith(OWN_NAME) and name not in workers for name in names)


def _workers(server: Asking) -> frozenset[str]:
    prefix = f"{RQ}:worker:"
    return frozenset(_text(key).removeprefix(prefix) for key in server.call("SMEMBERS", f"{RQ}:workers"))


def _name(line: str) -> str:
    return next((word.removeprefix("name=") for word in line.split(" ") if word.startswith("name=")), "")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
