"""How a run is started, beside its input."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbflow.define.asked import shown
from nbflow.define.checked import checked_delay, checked_priority, checked_queue, delay_s
from nbflow.errors import CommandRefused, DefinitionError

if TYPE_CHECKING:
    from nbflow.model.policy import Duration

__all__ = ["Options", "asked_options", "refuse_late_start"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is started, beside its input. `queue` and `priority` are where and how all its steps wait, instead of
    their own; `delay` is a duration, or the moment at which it starts. Without `cache` nothing is taken over from other runs."""

    key: str = ""
    tags: tuple[str, ...] = ()
    queue: str = ""
    priority: int | None = None
    delay: Duration | datetime | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        if self.queue:
            checked_queue(self.queue)
        if self.priority is not None:
            checked_priority("The priority of a run", self.priority)
        checked_delay(self.delay)
        if not isinstance(self.cache, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"cache={self.cache!r} is not possible for a run.", hint="Give True or False.")


def asked_options(options: Any) -> Options:
    """The options that a caller gives, or the usual ones. CommandRefused for anything else."""
    if options is not None and not isinstance(options, Options):
        raise CommandRefused(f"{shown(options)} are no options of a start.", hint="Write flow.options(...).start(...).")
    return options or Options()


def refuse_late_start(flow: str, deadline_s: float | None, options: Options) -> None:
    """The deadline counts from the launch: a run that starts after it would never begin."""
    if deadline_s is not None and delay_s(options.delay) >= deadline_s:
        raise CommandRefused(
            f"The start of flow {flow!r} is delayed beyond its deadline of {deadline_s:g} s, which counts from "
            "the launch.",
            hint="Give a shorter delay, or the flow a longer deadline.",
        )
