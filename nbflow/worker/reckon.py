"""What a tick asks back: moments that need a calendar, which no script has. Whoever ticks reckons them.

The answer depends on the question alone, so it does not matter who gives it, or how many do; and the script asks again
if nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbflow.errors import DefinitionError
from nbflow.store.scripts import Script

__all__ = ["reckon"]


def reckon(asked: Sequence[Sequence[bytes]], say: Callable[..., Any], script: Script) -> None:
    """Answer these questions of a tick: job, since when it waits, cron expression, time zone."""
    if not asked:
        return
    from nbflow.model.cron import Cron  # noqa: PLC0415 - most supervisors never need it

    for job, since, expression, tz in asked:
        try:
            at_ms = Cron(expression.decode(), tz.decode()).after_ms(int(since))
        except (DefinitionError, ValueError):
            continue  # a zone that this machine does not know, or text that somebody changed: another may answer
        say(*script.command(job=job.decode(), since=since.decode(), at=at_ms))
