"""What an author may write: each function gives the value back, or says in a DefinitionError what is wrong with it."""

from __future__ import annotations

import inspect
import math
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

from nbflow.define.asked import shown
from nbflow.define.forms import subscriptions_of
from nbflow.errors import DefinitionError, nearest
from nbflow.model.definition import Isolation, is_topic_name
from nbflow.model.ids import is_queue_name, is_step_name
from nbflow.model.policy import LONGEST_S, Concurrency, Duration, Rate, Retry, seconds

__all__ = [
    "checked_cache",
    "checked_choice",
    "checked_concurrency",
    "checked_count",
    "checked_delay",
    "checked_emits",
    "checked_flow",
    "checked_isolation",
    "checked_name",
    "checked_priority",
    "checked_queue",
    "checked_rate",
    "checked_retention",
    "checked_retry",
    "checked_stall",
    "checked_texts",
    "checked_timeout",
    "delay_s",
    "first_line",
    "result_name",
]

HIGHEST_PRIORITY = 100
MIN_TIMEOUT_S = 0.01
MIN_CACHE_S = 0.001
_FLOW_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}", re.ASCII)


def checked_flow(name: str) -> str:
    if not isinstance(name, str) or not _FLOW_NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"A flow cannot be called {name!r}."
        raise DefinitionError(message, hint="Use at most 100 letters, digits, '_', '-' and '.'.")
    return name


def checked_choice(what: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise DefinitionError(f"{what}={value!r} is not known.", hint=nearest(str(value), choices))
    return value


def checked_count(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(f"{what}={value!r} is not possible.", hint="Give a whole number of at least 1.")
    return value


def checked_retention(retention: Duration | None) -> float | None:
    """Seconds, infinity for "never", or None where nothing is said."""
    if retention is None or retention == "never":
        return None if retention is None else math.inf
    return seconds(retention, "The retention of a flow")


def checked_cache(step: str, cache: Duration | None) -> float | None:
    """Seconds, or None where nothing is kept."""
    if isinstance(cache, bool):
        message = f"The cache= of step {step!r} is {cache!r}, which says not for how long."
        raise DefinitionError(message, hint="Give the time for which a result counts, cache='1h', or leave it out.")
    if cache is None:
        return None
    found = seconds(cache, f"The cache of step {step!r}")
    if found < MIN_CACHE_S:
        message = f"The cache of step {step!r} is {cache!r}, too short for anything."
        raise DefinitionError(message, hint="Give the time for which a result counts, cache='1h', or leave it out.")
    return found


def checked_stall(stall_after: Duration) -> float:
    after = seconds(stall_after, "The stall_after of a flow")
    if after <= 0:
        raise DefinitionError("A run is not stalled at once.", hint="Give stall_after= a duration, such as '1m'.")
    return after


def checked_name(function: Callable[..., Any], name: str | None) -> str:
    is_function = callable(function) and not inspect.isclass(function) and not inspect.ismethod(function)
    if not is_function or not hasattr(function, "__dict__"):
        message = f"{function!r} cannot be a step."
        raise DefinitionError(message, hint="Decorate a function; wrap anything else in a def.")
    called = getattr(function, "__name__", "") if name is None else name
    if not isinstance(called, str) or not is_step_name(called):
        message = f"A step cannot be called {called!r}."
        hint = (
            "Pass name= with letters, digits, '_' and '-', which begins with a letter, "
            "does not end in '-' and a number, and does not contain '__attempt-'."
        )
        raise DefinitionError(message, hint=hint)
    return called


def checked_texts(what: str, texts: Any) -> tuple[Any, ...]:
    """What is given as a list of texts, as a tuple; their own check is the caller's."""
    if isinstance(texts, list | tuple | set | frozenset):
        return tuple(cast("list[Any]", texts))
    raise DefinitionError(f"{what} cannot be {shown(texts)}.", hint="Give a list of texts.")


def checked_emits(step: str, emits: str | Sequence[str]) -> tuple[str, ...]:
    topics = checked_texts(f"emits= of step {step!r}", (emits,) if isinstance(emits, str) else emits)
    for topic in topics:
        if not isinstance(topic, str) or not is_topic_name(topic):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"Step {step!r} emits {topic!r}, which names no topic."
            raise DefinitionError(message, hint="Use dotted words of letters, digits, '_' and '-': 'order.priced'.")
        if topics.count(topic) > 1:
            raise DefinitionError(f"Step {step!r} declares the topic {topic!r} twice.", hint="Name it once in emits=.")
    return topics


def checked_queue(queue: str) -> str:
    """The name of a queue, or a DefinitionError."""
    if not isinstance(queue, str) or not is_queue_name(queue):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"A queue cannot be called {queue!r}."
        raise DefinitionError(message, hint="Use at most 100 letters, digits, '_', '-' and '.', such as 'default'.")
    return queue


def checked_priority(what: str, priority: int) -> int:
    """A priority, or a DefinitionError."""
    is_number = isinstance(priority, int) and not isinstance(priority, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_number or abs(priority) > HIGHEST_PRIORITY:
        message = f"{what} cannot be {priority!r}."
        raise DefinitionError(message, hint="Give a whole number from -100 to 100; higher comes first, 0 is usual.")
    return priority


def checked_delay(delay: Duration | datetime | None) -> str:
    """A delay as the server takes it: milliseconds from then on, or `@` and a moment. A DefinitionError for one that is
    negative, or a moment that is over."""
    if isinstance(delay, datetime):
        wait_s = delay_s(delay)
        if not 0 <= wait_s <= LONGEST_S:
            said = "which is over" if wait_s < 0 else "in more than a year"
            message = f"The start cannot be at {delay.isoformat()}, {said}."
            raise DefinitionError(message, hint="Give a moment to come, at most a year from now, or no delay.")
        return f"@{round(delay.timestamp() * 1000)}"
    wait_s = 0.0 if delay is None else seconds(delay, "The delay of a start")
    return str(round(wait_s * 1000)) if wait_s else ""


def delay_s(delay: Duration | datetime | None) -> float:
    """Seconds from now on. A datetime without a zone is of this machine's."""
    if isinstance(delay, datetime):
        try:
            return delay.timestamp() - time.time()
        except (ValueError, OverflowError, OSError):  # the first and the last years have no timestamp everywhere
            return math.copysign(math.inf, delay.year - 2000)
    return 0.0 if delay is None else seconds(delay, "The delay of a start")


def checked_retry(step: str, retry: Retry | None) -> Retry | None:
    if retry is not None and not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"The retry= of step {step!r} is {retry!r}, which is no policy."
        raise DefinitionError(message, hint="Write retry=Retry(3, backoff=2.0).")
    return retry


def checked_concurrency(what: str, concurrency: Concurrency | None) -> Concurrency | None:
    if concurrency is not None and not isinstance(concurrency, Concurrency):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"The concurrency= of {what} is {concurrency!r}, which is no limit."
        raise DefinitionError(message, hint="Write concurrency=Concurrency(4), or Concurrency(1, key='customer.id').")
    return concurrency


def checked_rate(step: str, rate: Rate | None) -> Rate | None:
    if rate is not None and not isinstance(rate, Rate):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"The rate= of step {step!r} is {rate!r}, which is no rate."
        raise DefinitionError(message, hint="Write rate=Rate(10, '1s').")
    return rate


def checked_isolation(step: str, isolation: Isolation | None) -> Isolation | None:
    if isolation is not None and isolation != "process":  # pyright: ignore[reportUnnecessaryComparison]
        message = f"The isolation= of step {step!r} is {shown(isolation)}, which is not known."
        raise DefinitionError(message, hint="Write isolation='process', or leave it out.")
    return isolation


def checked_timeout(step: str, timeout: Duration) -> float:
    found = seconds(timeout, f"The timeout of step {step!r}")
    if found < MIN_TIMEOUT_S:
        message = f"The timeout of step {step!r} is {timeout!r}, too short for anything."
        raise DefinitionError(message, hint="Give at least a hundredth of a second, or leave it out for none.")
    return found


def result_name(result: Any, flow: str) -> str | None:
    if result is None:
        return None
    if isinstance(result, str) and is_step_name(result):
        return result
    (subscription,) = subscriptions_of(result)
    source = subscription.sources[0].within(flow)
    if not source.is_step or len(subscription.sources) > 1:
        message = f"The result of flow {flow!r} is {source.name!r}, which is no step."
        raise DefinitionError(message, hint="Give result= a step's function or name.")
    return source.name


def first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
