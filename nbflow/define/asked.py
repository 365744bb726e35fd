"""What a caller may ask for: each function gives the value back in one form, or says in a CommandRefused what is wrong with
it. `checked.py` has the same for what an author declares."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from nbflow.errors import CommandRefused
from nbflow.model.policy import LONGEST_S

__all__ = [
    "asked_emits",
    "asked_event_id",
    "asked_limit",
    "asked_mappings",
    "asked_moment_ms",
    "asked_name",
    "asked_path",
    "asked_patience",
    "asked_run",
    "asked_text",
    "shown",
]

_EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")


def asked_run(run_id: Any) -> str:
    """An id of a run, or its beginning."""
    if not isinstance(run_id, str):
        raise CommandRefused(f"No run has the id {shown(run_id)}.", hint="Give the id as text, as run.id is.")
    return run_id


def asked_event_id(after: Any) -> str:
    """An id of an event, which need not be there; `0-0` is before all."""
    if not isinstance(after, str) or not _EVENT_ID.fullmatch(after):
        raise CommandRefused(f"No event has the id {shown(after)}.", hint="Take one of run.events, or '0-0' for all.")
    return after


def asked_patience(timeout: Any) -> float | None:
    """Seconds to wait, or None for as long as it takes."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and timeout >= 0):
        raise CommandRefused(f"A timeout cannot be {shown(timeout)}.", hint="Give seconds, or None to wait for ever.")
    return None if timeout is None or timeout > LONGEST_S else float(timeout)


def asked_path(path: Any) -> Path:
    """Where a file is."""
    if not isinstance(path, str | os.PathLike) or not str(path) or "\0" in str(path):  # pyright: ignore[reportUnknownArgumentType]
        raise CommandRefused(f"A file cannot be called {shown(path)}.", hint="Give a path, such as 'run.nbflow'.")
    return Path(cast("str", path))


def asked_moment_ms(what: str, moment: Any) -> int | None:
    """A moment in ms since 1970, or None."""
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise CommandRefused(f"{what} cannot be {shown(moment)}.", hint="Give a datetime, best with a time zone.")
    return int(moment.timestamp() * 1000)


def asked_limit(limit: Any) -> int:
    """How many at most."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 1_000_000:
        raise CommandRefused(f"limit={shown(limit)} is not possible.", hint="Give a whole number from 1 to 1000000.")
    return limit


def asked_text(what: str, text: Any) -> str:
    """A text, empty or not."""
    if not isinstance(text, str):
        raise CommandRefused(f"{what} cannot be {shown(text)}.", hint="Give text.")
    return text


def asked_name(what: str, name: Any) -> str | None:
    """A name to look for, or None."""
    return None if name is None else asked_text(what, name)


def asked_emits(emits: Any) -> dict[str, Any]:
    """What is emitted by hand, by topic."""
    if emits is not None and not isinstance(emits, Mapping):
        raise CommandRefused(f"emits= cannot be {shown(emits)}.", hint="Give a dict: {'order.priced': order}.")
    return dict(cast("Mapping[str, Any]", emits or {}))


def asked_mappings(inputs: Any) -> list[Mapping[str, Any]]:
    """The inputs of many runs."""
    is_list = isinstance(inputs, list | tuple)
    wrong = [one for one in cast("list[Any]", inputs) if not isinstance(one, Mapping)] if is_list else [inputs]
    if wrong:
        raise CommandRefused(
            f"start_many takes a list of inputs, each a dict, and not {shown(wrong[0])}.",
            hint="Write flow.start_many([{'day': 1}, {'day': 2}]).",
        )
    return cast("list[Mapping[str, Any]]", [*inputs])


def shown(value: Any) -> str:
    """What somebody gave, in short and without an address."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever it is, the error is another one
        text = " at 0x"
    return f"an object of type {type(value).__name__}" if " at 0x" in text else text[:60]
