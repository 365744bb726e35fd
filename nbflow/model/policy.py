"""How a step is tried again, how long it may take, and how many of its tasks may run at once, as frozen data. Nothing
waits or sleeps here."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, cast

from nbflow.errors import DefinitionError

__all__ = ["LONGEST_S", "Concurrency", "Duration", "Rate", "Retry", "RetryLater", "seconds"]

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
        most: Any = self.max_attempts
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= self.LONGEST:
            raise DefinitionError(
                f"Retry(max_attempts={self.max_attempts!r}) is not possible.",
                hint="Give a whole number from 1 to 1000.",
            )
        seconds(self.backoff, "Retry(backoff=…)")
        seconds(self.max_delay, "Retry(max_delay=…)")
        for name, which in (("on", self.on), ("unless", self.unless)):
            if not _is_which(which):
                raise DefinitionError(
                    f"Retry({name}=…) is no exception and no function of one.",
                    hint=f"Write {name}=TimeoutError, {name}=(OSError, ValueError), or a function that says yes or no.",
                )

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


def _is_which(which: Any) -> bool:
    is_one = not isinstance(which, tuple)
    kinds = cast("tuple[Any, ...]", (which,) if is_one else which)
    are_types = all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)
    return are_types or (is_one and callable(kinds[0]) and not isinstance(kinds[0], type))


def _matches(which: Which, error: BaseException) -> bool:
    if isinstance(which, tuple | type):
        return isinstance(error, which)
    return bool(which(error))


MOST_AT_ONCE = 10_000
_KEY = re.compile(r"[^\s.,]+(\.[^\s.,]+)*")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `n` tasks at once, over all runs of the flow: of a step, or of the whole flow.

    With a `key`, a dotted field of a payload that the step receives (of a flow: of its input), at most n for each value
    of that field: `Concurrency(1, key="customer.id")`.
    """

    n: int
    key: str | None = None

    def __post_init__(self) -> None:
        _check_count("Concurrency", self.n)
        if self.key is not None and (not isinstance(self.key, str) or not _KEY.fullmatch(self.key)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(
                f"Concurrency(key={self.key!r}) names no field.", hint="Write a dotted field, such as 'customer.id'."
            )

    @property
    def path(self) -> list[str]:
        """The key in parts."""
        return self.key.split(".") if self.key else []


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `n` starts of a step's tasks within any time of the length `per`, over all runs of the flow. Every start
    counts, of a retry too."""

    n: int
    per: Duration = 1.0

    def __post_init__(self) -> None:
        _check_count("Rate", self.n)
        if seconds(self.per, "Rate(per=…)") < 0.001:
            raise DefinitionError(f"Rate(per={self.per!r}) is too short.", hint="Give at least a millisecond.")


def _check_count(what: str, n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_AT_ONCE:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(f"{what}({n!r}) is not possible.", hint=f"Give a whole number from 1 to {MOST_AT_ONCE}.")
