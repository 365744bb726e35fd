"""The herald: a process beside the workers that starts what is due. The supervisor starts it when there is something to
start, and hands over what the server offers. It may die at any time: the server offers again what nobody decided.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence

from nbflow.worker.child import SECRETS

__all__ = ["Herald"]

PROGRAM = "nbflow.firing"


class Herald:
    """At most one such process."""

    def __init__(self, program: str = PROGRAM) -> None:
        self._program = program
        self._pid = self._pipe = -1

    def tell(self, offers: Sequence[bytes]) -> None:
        """Hand over what is due; nothing, and only look whether it has ended."""
        self._look()
        if not offers:
            return
        if self._pid < 0:
            self._start()
        with contextlib.suppress(OSError):  # it has just ended, or has more than enough to do: it is offered again
            os.write(self._pipe, json.dumps([offer.decode() for offer in offers]).encode() + b"\n")

    def close(self) -> None:
        """It ends once it has decided what it is at."""
        if self._pid >= 0:
            os.close(self._pipe)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = self._pipe = -1

    def _look(self) -> None:
        if self._pid >= 0 and os.waitpid(self._pid, os.WNOHANG)[0]:
            os.close(self._pipe)
            self._pid = self._pipe = -1

    def _start(self) -> None:
        """The secrets come by the pipe, as those of workers do: an environment can be read from outside."""
        read, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        secrets = {name: os.environ[name] for name in SECRETS if name in os.environ}
        os.write(self._pipe, json.dumps(secrets).encode() + b"\n")
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", self._program],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)],
            )
        finally:
            os.close(read)
