"""Sweeping: artifacts in a directory or at a URL that no run owns any more. No script reaches there, so whoever has an
artifact store looks now and then.

The order makes it safe against a run that comes to own the same bytes at the same moment. First they are set aside,
under another name; then the count is asked; then they are removed, or put back. An owner counts first and looks for the
bytes after that. So either the sweeper sees the owner, or the owner sees that the bytes are missing. A sweeper that
dies leaves its entry in the dust, and what it set aside to the next one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.keys import Keys
from nbflow.store.scripts import Script

__all__ = ["find_strays", "own_folder", "sweep"]

_DIGEST = re.compile(rb"[0-9a-f]{32}")  # of a file's name: what else lies there is nobody's to remove
MANY = 100
OLD_S = 86400.0


def sweep(artifacts: StoredArtifacts, ask: Callable[..., Any], keys: Keys, swept: Script, most: int = MANY) -> int:
    """Look after so many artifacts at most; how many were done. `ask` sends a command and gives its reply as bytes."""
    if not artifacts.has_place:
        return 0
    pairs = _pairs(ask("HRANDFIELD", keys.dust(), most, "WITHVALUES") or [])
    if not pairs:
        return 0
    for digest, _ in pairs:
        if _DIGEST.fullmatch(digest):
            _look_after(artifacts, digest.decode(), lambda name: ask("HGET", keys.owners(), f"artifact:{name}"))
    return int(ask(*swept.command(*(part for pair in pairs for part in pair))))


def find_strays(artifacts: StoredArtifacts, ask: Callable[..., Any], keys: Keys) -> int:
    """Name as dust what lies in the artifact store for nobody: a writer was killed just when its run was deleted. How
    many. It is looked after like the rest, so a run that comes to own one of them loses nothing."""
    strays = [digest for digest in artifacts.strays(OLD_S) if _DIGEST.fullmatch(digest.encode())]
    found = 0
    for digest in strays:
        if int(ask("HGET", keys.owners(), f"artifact:{digest}") or 0) <= 0:
            found += int(ask("HSET", keys.dust(), digest, "stray"))
    return found


def own_folder(ask: Callable[..., Any], keys: Keys) -> str:
    """The folder of this namespace in an artifact store: named once, at random, and kept in the server."""
    known: bytes | None = ask("GET", keys.place())
    if known is None:
        ask("SET", keys.place(), secrets.token_hex(8), "NX")  # of two who are first, one wins
        known = ask("GET", keys.place())
    return (known or b"").decode()


def _pairs(reply: list[Any]) -> list[tuple[bytes, bytes]]:
    """Fields and values: one list of all with RESP2, a list of pairs with RESP3."""
    if isinstance(reply[0] if reply else None, list):
        return [(field, value) for field, value in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))


def _look_after(artifacts: StoredArtifacts, digest: str, owners: Callable[[str], Any]) -> None:
    artifacts.set_aside(digest)
    if int(owners(digest) or 0) > 0:
        artifacts.put_back(digest)
    else:
        artifacts.drop_aside(digest)
