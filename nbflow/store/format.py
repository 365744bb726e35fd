"""Which format the keys of a namespace have. Whoever is about to read or write them asks first: launchers, readers,
supervisors, each worker, and a stock worker at each task. It imports nothing heavy, for the supervisor's sake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbflow.errors import FormatMismatch
from nbflow.store.keys import FORMAT, Keys

__all__ = ["refuse_other_format"]


def refuse_other_format(ask: Callable[..., Any], keys: Keys) -> None:
    """`FormatMismatch` if the namespace is of another format; one that is nobody's yet is ours from now on. `ask` says a
    command to the server and gives its reply."""
    found = ask("GET", keys.format())  # read first: a full server can be looked at still
    if found is None:
        ask("SETNX", keys.format(), FORMAT)
        found = ask("GET", keys.format())
    text = found.decode() if isinstance(found, bytes) else found
    if text != str(FORMAT):
        raise FormatMismatch(
            f"The namespace {keys.namespace!r} holds keys of format {text}; this nbflow writes format {FORMAT}.",
            hint="Use the nbflow that wrote them, or another namespace (NBFLOW_NAMESPACE).",
        )
