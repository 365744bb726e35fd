"""`secret new`: a secret to sign with, for servers that are not this machine's own."""

from __future__ import annotations

import secrets

from nbflow.cli.terminal import say

__all__ = ["new"]

_BYTES = 32


def new() -> None:
    """Print a new secret, for NBFLOW_SECRET."""
    say(secrets.token_hex(_BYTES))
