"""How a step is tried again and how long it may take, as frozen data. Nothing waits or sleeps here."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from nbflow.errors import DefinitionError

__all__ = ["LONGEST_S", "Duration", "Retry", "RetryLater", "seconds"]

Duration = float | timedelta | str
"""Seconds, a timedelta, or text such as `"500ms"`, `"30s"`, `"15m"`, `"2h"`, `"1d"`, `"1h30m"`."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhd])")
LONGEST_S = 366 * 86400.0

Which = tuple[type[BaseException], ...] | type[BaseException] | Callable[[BaseException], bool]


def seconds(value: Duration, what: str = "a duration") -> float:
    """The duration in seconds. DefinitionError for one that is negative, longer than a year, or no duration at all."""
    number = _number(value)
    if number is None or not 0 <= number <= LONGEST_S:
        raise DefinitionError(
            f"{what} cannot be {value!r}.", hint="Give seconds, a timedelta, or text such as '30s', '15m', '1h30m'."
        )
    return number


def _number(value: Any) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _PART.sub("", value).strip() == "" and value.strip():
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    return None


class RetryLater(Exception):
    """What `Retry.later(seconds)` makes: raise it to be executed again after that time, as the same attempt."""

    def __init__(self, after_s: float) -> None:
        super().__init__(f"again in {after_s:g} s")
        self.after_s = after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.after_s,)


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a step is tried again.

    `max_attempts` counts the first try. Attempt n + 1 begins `backoff * 2 ** (n - 1)` after the end of attempt n, at most
    `max_delay` (exponential back-off); with `jitter`, a uniform random part of that between half and all of it, so that
    many tasks that fail together do not come back together. `on` says for which exceptions (types, or a function of the
    exception), `unless` for which of them not.
    """

    max_attempts: int = 3
    backoff: Duration = 1.0
    max_delay: Duration = 3600.0
    jitter: bool = False
    on: Which = (Exception,)
    unless: Which = ()

    LONGEST: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not 1 <= self.max_attempts <= self.LONGEST:
            raise DefinitionError(
                f"Retry(max_attempts={self.max_attempts!r}) is not possible.",
                hint="Give a whole number from 1 to 1000.",
            )
        seconds(self.backoff, "Retry(backoff=…)")
        seconds(self.max_delay, "Retry(max_delay=…)")

    @staticmethod
    def later(after: Duration) -> RetryLater:
        """`raise Retry.later("5m")`: execute me again after that time. It needs no policy and is not counted."""
        return RetryLater(seconds(after, "Retry.later(…)"))

    def wants(self, error: BaseException, attempt: int) -> bool:
        """Whether attempt `attempt`, which ended with this error, is followed by another."""
        return attempt < self.max_attempts and _matches(self.on, error) and not _matches(self.unless, error)

    def delay_s(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds between the end of attempt `attempt` and the next."""
        full = min(seconds(self.backoff) * 2 ** min(attempt - 1, 60), seconds(self.max_delay))
        return full * (0.5 + draw() / 2) if self.jitter else full


def _matches(which: Which, error: BaseException) -> bool:
    if isinstance(which, tuple | type):
        return isinstance(error, which)
    return bool(which(error))
