"""From what a step did to what is written of it: its result, its emissions with their indexes, or its failure.

The rules are those of semantics §2 (what a step returns) and §3 (indexes).
"""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import nbflow
from nbflow.define.forms import NOTHING
from nbflow.define.plan import Route
from nbflow.define.signature import InvalidPayload
from nbflow.errors import Canceled, DefinitionError, GiveUp, NbflowError
from nbflow.model.codec import Codec
from nbflow.model.definition import StepSpec, failed_topic, spread_topic, step_topic
from nbflow.model.ids import index_for_people
from nbflow.worker.context import Emission, UndeclaredEmit
from nbflow.worker.task import Ending, Job

__all__ = ["completed", "failed"]

Keys = dict[str, Callable[[Any], Any]]
"""The `key=` function of each step that has one."""

_MOST_TRACEBACK = 16_000
_OWN_FILES = os.path.dirname(os.path.abspath(nbflow.__file__)) + os.sep


def completed(job: Job, step: StepSpec, route: Route, codec: Codec, keys: Keys, value: Any, calls: list[Emission], took_s: float) -> Ending:
    """The ending of an attempt whose body returned. Raises what makes the attempt fail after all."""
    emissions = _with_result(step, value, calls)
    result = None if value is NOTHING else value
    ending = Ending("completed", "")
    spread: list[str] | None = None
    if route.spread:
        items = _elements(step, result)
        list_text, spread = codec.encode_items(items)
        text = list_text if type(result) is list else codec.encode(result)
        _name_elements(ending, route, keys, spread_topic(step.name), [str(i) for i in range(len(items))], items)
    else:
        text = codec.encode(result)
    shown = text
    numbers = _Numbers(job.index, emissions)
    for emission in emissions:
        reuse = emission.values[0] is result and not emission.many
        payload = _emit(ending, codec, numbers, emission, text if reuse else None)
        _name_elements(ending, route, keys, emission.topic, payload, emission.values)
        if reuse and not calls:
            shown = f'{{"$emit":{json.dumps(emission.topic)}}}'  # the result was written once, in the emit
    if route.result:
        _name_elements(ending, route, keys, step_topic(step.name), [job.index or "0"], [result])
        ending.emit(step_topic(step.name), "silent", [(job.index or "0", text)])
    if spread is not None:
        ending.emit(spread_topic(step.name), "silent", [(str(i), item) for i, item in enumerate(spread)])
    ending.data = f'{{"result":{shown},"duration":{took_s * 1000:.3f}}}'
    return ending


def failed(job: Job, route: Route | None, codec: Codec | None, error: BaseException, took_s: float, received: Any) -> Ending:
    """The ending of an attempt that failed for good, with what `failed(step)` receives if anybody wants it."""
    last, text = _described(error)
    data = {"error": last, "traceback": text, "reason": _reason(error), "duration": round(took_s * 1000, 3)}
    ending = Ending("failed", json.dumps(data, separators=(",", ":")))
    if route is not None and route.failed and codec is not None:
        payload: dict[str, Any] = {
            "error": last,
            "traceback": text,
            "attempt": job.attempt,
            "index": index_for_people(job.index),
            "key": job.key,
        }
        ending.emit(failed_topic(job.step), "silent", [(job.index or "0", _failure(codec, payload, received))])
    return ending


def _failure(codec: Codec, payload: dict[str, Any], received: Any) -> str:
    try:
        return codec.encode(payload | {"input": received})
    except NbflowError:
        return codec.encode(payload | {"input": None})


def _with_result(step: StepSpec, value: Any, calls: list[Emission]) -> list[Emission]:
    if calls:
        return calls
    if len(step.emits) == 1:
        return [] if value is NOTHING else [Emission(step.emits[0], [value], many=False)]
    if len(step.emits) > 1 and value is not None and value is not NOTHING:
        raise DefinitionError(
            f"The step {step.name!r} returned a value and emitted nothing, and it declares {len(step.emits)} topics.",
            hint=f"Say which with ctx.emit(topic, value), one of {', '.join(map(repr, step.emits))}.",
        )
    return []


def _elements(step: StepSpec, value: Any) -> list[Any]:
    if isinstance(value, list | tuple | range | set | frozenset):
        return list(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    raise DefinitionError(
        f"The step {step.name!r} returned {type(value).__name__}, and each({step.name}) needs a list.",
        hint="Return a list (or a tuple, a set, a generator), one element for each task.",
    )


class _Numbers:
    """Indexes of emissions: 0, 1, … in order of calls; a task with index i hands on i if it emits a topic once."""

    def __init__(self, index: str, emissions: list[Emission]) -> None:
        self._index = index
        self._calls = Counter(emission.topic for emission in emissions)
        self._many = {emission.topic for emission in emissions if emission.many}
        self._next: Counter[str] = Counter()

    def take(self, topic: str, count: int) -> list[str]:
        if self._index and self._calls[topic] == 1 and topic not in self._many:
            return [self._index]
        first = self._next[topic]
        self._next[topic] += count
        dot = f"{self._index}." if self._index else ""
        return [f"{dot}{number}" for number in range(first, first + count)]


def _emit(ending: Ending, codec: Codec, numbers: _Numbers, emission: Emission, text: str | None) -> list[str]:
    indexes = numbers.take(emission.topic, len(emission.values))
    if emission.many:
        list_text, texts = codec.encode_items(emission.values)
        ending.emit(emission.topic, "many", list(zip(indexes, texts, strict=True)), list_text)
    else:
        ending.emit(emission.topic, "one", [(indexes[0], codec.encode(emission.values[0]) if text is None else text)])
    return indexes


def _name_elements(ending: Ending, route: Route, keys: Keys, topic: str, indexes: Iterable[str], items: Iterable[Any]) -> None:
    """Names come before the emission they name, so that the tasks are made with them."""
    for subscriber in route.keyed_by.get(topic, ()):
        named = [(index, str(keys[subscriber](item))) for index, item in zip(indexes, items, strict=True)]
        group: list[Any] = [subscriber, "key", "", len(named)]
        for index, name in named:
            group += [index, name]
        ending.emits[:0] = group


def _reason(error: BaseException) -> str:
    if isinstance(error, InvalidPayload):
        return InvalidPayload.reason
    if isinstance(error, UndeclaredEmit):
        return "undeclared_emit"
    if isinstance(error, GiveUp):
        return "gave_up"
    return "stopped" if isinstance(error, Canceled) else "error"


def _described(error: BaseException) -> tuple[str, str]:
    """(the last line, the traceback from the step's own first line on)."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        frames = frames.tb_next
    told = traceback.TracebackException(type(error), error, frames, compact=True)
    text = "".join(told.format())
    if len(text) > _MOST_TRACEBACK:
        text = text[: _MOST_TRACEBACK // 4] + "\n  …\n" + text[-_MOST_TRACEBACK * 3 // 4 :]
    last = "".join(traceback.format_exception_only(error)).strip()
    return last[:4000], text
