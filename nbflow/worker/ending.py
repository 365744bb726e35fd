"""From what a step did to what is written of it: its result, its emissions with their indexes, or its failure.

The rules are those of semantics §2 (what a step returns) and §3 (indexes).
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbflow
from nbflow.define.forms import NOTHING
from nbflow.define.numbering import Numbers
from nbflow.define.plan import Route
from nbflow.define.signature import InvalidPayload
from nbflow.errors import Canceled, ChildFailed, DefinitionError, GiveUp, NbflowError
from nbflow.model import veil
from nbflow.model.codec import Codec
from nbflow.model.definition import StepSpec, failed_topic, spread_topic, step_topic
from nbflow.model.ids import index_for_people
from nbflow.model.policy import RetryLater
from nbflow.worker.context import Emission, StepTimeout, UndeclaredEmit
from nbflow.worker.keeping import kept
from nbflow.worker.started import Start, Started
from nbflow.worker.task import Ending, Job

__all__ = ["Attempt", "failure"]

Keys = dict[str, Callable[[Any], Any]]
"""The `key=` function of each step that has one."""

RETRIED = ("error", "timeout", "child")
"""Reasons that a policy is asked about; the others are final."""

_MOST_TRACEBACK = 16_000
_OWN_FILES = str(Path(nbflow.__file__).parent) + os.sep


@dataclass(slots=True)
class Attempt:
    """One attempt and what is known of its step: who wants what of it, how values are written, how elements are named."""

    job: Job
    step: StepSpec
    route: Route
    codec: Codec
    keys: Keys

    def completed(
        self,
        value: Any,
        calls: list[Emission],
        starts: list[Start],
        took_s: float,
        looked: AbstractSet[str] | None = None,
    ) -> Ending:
        """The ending of an attempt whose body returned, and what that looked at (None: nobody knows). Raises what makes the
        attempt fail after all."""
        awaited = _awaited(self.step, value, starts)
        if awaited is not None:
            return self._awaiting(awaited, calls, starts)
        ending = Ending("completed", "", [part for start in starts for part in start.group])
        ended = self._ended(ending, value.id if isinstance(value, Started) else value, calls, took_s)
        if self.step.cache_s is not None and looked is not None:
            return kept(ended, {*looked, "start_flow"} if starts else looked, self.step, self.codec)
        return ended

    def joined(self, value: Any, has_emitted: bool, took_s: float) -> Ending:
        """The ending of one that awaited a run with this result. What it emitted before lies where it waited."""
        ending = Ending("joined", "")
        silent = has_emitted or len(self.step.emits) > 1
        return self._ended(ending, value, None if silent else [], took_s)

    def _awaiting(self, awaited: Start, calls: list[Emission], starts: list[Start]) -> Ending:
        """It waits from now on, and all else that it did counts later."""
        if len(self.step.emits) > 1:
            _with_result(self.step, awaited, calls)
        told = {"kind": "child", "position": "child", "run": awaited.handle.id, "flow": awaited.handle.flow}
        first, *rest = [awaited, *(start for start in starts if start is not awaited)]
        ending = Ending("awaiting", json.dumps(told, separators=(",", ":")), first.group)
        ending.emits[2] = "emitted" if calls else ""
        for start in rest:
            ending.emits += start.group
        numbers = Numbers(self.job.index, calls)
        for emission in calls:
            self._emit(ending, numbers, emission, None)
        return ending

    def _ended(self, ending: Ending, value: Any, calls: list[Emission] | None, took_s: float) -> Ending:
        """`calls` is None where the result must not be emitted."""
        result = None if value is NOTHING else value
        text, elements = self._result(ending, result)
        emissions = [] if calls is None else _with_result(self.step, value, calls)
        if emissions:
            numbers = Numbers(self.job.index, emissions)
            for emission in emissions:
                self._emit(ending, numbers, emission, text if emission.is_result else None)
        shown = f'{{"$emit":{json.dumps(emissions[0].topic)}}}' if emissions and emissions[0].is_result else text
        if self.route.result:
            index = self.job.index or "0"
            self._name_elements(ending, step_topic(self.step.name), [index], [result])
            ending.emit(step_topic(self.step.name), "silent", [(index, text)])
        if self.route.spread:
            pairs = [(str(i), element) for i, element in enumerate(elements)]
            ending.emit(spread_topic(self.step.name), "silent", pairs)
        ending.data = f'{{"result":{shown},"duration":{took_s * 1000:.3f}}}'
        return ending

    def failed(self, error: BaseException, took_s: float, received: Any) -> Ending:
        """The ending of an attempt that failed: with another attempt after a while if the step's policy wants one, else
        for good, with what `failed(step)` receives if anybody wants it."""
        again = self._again(error)
        if again is not None:
            return failure(error, took_s, again)
        ending = failure(error, took_s)
        if self.route.failed:
            last, text = _described_anyway(error)
            payload: dict[str, Any] = {
                "error": last,
                "traceback": text,
                "attempt": self.job.attempt,
                "index": index_for_people(self.job.index),
                "key": self.job.key,
            }
            ending.emit(
                failed_topic(self.step.name), "silent", [(self.job.index or "0", self._failure(payload, received))]
            )
        return ending

    def _again(self, error: BaseException) -> dict[str, Any] | None:
        """`delay` (ms), `nextAttempt`, `maxAttempts`; None if the failure is final."""
        attempt, policy = self.job.attempt, self.step.retry
        most = policy.max_attempts if policy else 1
        if isinstance(error, RetryLater):
            return {"delay": round(error.after_s * 1000), "nextAttempt": attempt, "maxAttempts": most}
        if policy is None or _reason(error) not in RETRIED or not policy.wants(error, attempt):
            return None
        return {"delay": round(policy.delay_s(attempt) * 1000), "nextAttempt": attempt + 1, "maxAttempts": most}

    def _failure(self, payload: dict[str, Any], received: Any) -> str:
        try:
            return self.codec.encode(payload | {"input": received})
        except NbflowError:
            return self.codec.encode(payload | {"input": None})

    def _result(self, ending: Ending, result: Any) -> tuple[str, list[str]]:
        """The result's text, and its elements' where somebody maps over them."""
        if not self.route.spread:
            return self.codec.encode(result), []
        items = _elements(self.step, result)
        text, elements = self.codec.encode_items(items)
        self._name_elements(ending, spread_topic(self.step.name), [str(i) for i in range(len(items))], items)
        return text if type(result) is list else self.codec.encode(result), elements

    def _emit(self, ending: Ending, numbers: Numbers, emission: Emission, text: str | None) -> None:
        indexes = numbers.take(emission.topic, len(emission.values))
        self._name_elements(ending, emission.topic, indexes, emission.values)
        if emission.many:
            list_text, texts = self.codec.encode_items(emission.values, name=emission.topic)
            ending.emit(emission.topic, "many", list(zip(indexes, texts, strict=True)), list_text)
        else:
            payload = self.codec.encode(emission.values[0], name=emission.topic) if text is None else text
            ending.emit(emission.topic, "one", [(indexes[0], payload)])

    def _name_elements(self, ending: Ending, topic: str, indexes: list[str], items: list[Any]) -> None:
        """Names come before the emission they name, so that the tasks are made with them."""
        for subscriber in self.route.keyed_by.get(topic, ()):
            name = self.keys[subscriber]
            names = [veil.masked(str(name(item))) for item in items]
            ending.emit(subscriber, "key", list(zip(indexes, names, strict=True)))


def failure(error: BaseException, took_s: float, again: dict[str, Any] | None = None) -> Ending:
    """The ending of an attempt that failed: for good, or with what is known of the next."""
    last, text = _described_anyway(error)
    data: dict[str, Any] = {
        "error": last,
        "traceback": text,
        "reason": _reason(error),
        "duration": round(took_s * 1000, 3),
    }
    if again is None:
        return Ending("failed", json.dumps(data, separators=(",", ":")))
    return Ending("retry", json.dumps(data | again, separators=(",", ":")), delay_ms=again["delay"])


def _awaited(step: StepSpec, value: Any, starts: list[Start]) -> Start | None:
    """The run that the step awaits: one that it returns."""
    found = [start for start in starts if start.handle.is_awaited]
    if not found:
        return None
    if len(found) > 1 or value is not found[0].handle:
        said = (
            f"awaits {len(found)} runs"
            if len(found) > 1
            else f"awaits a run of {found[0].handle.flow!r} and returns something else"
        )
        raise DefinitionError(
            f"The step {step.name!r} {said}; a step can only wait for the one run that it returns.",
            hint="Write `return ctx.start_flow(…, await_result=True)`; map over elements to await many.",
        )
    return found[0]


def _with_result(step: StepSpec, value: Any, calls: list[Emission]) -> list[Emission]:
    if calls:
        return calls
    if len(step.emits) == 1:
        return [] if value is NOTHING else [Emission(step.emits[0], [value], is_result=True)]
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


def _reason(error: BaseException) -> str:
    if isinstance(error, InvalidPayload):
        return InvalidPayload.reason
    if isinstance(error, UndeclaredEmit):
        return "undeclared_emit"
    if isinstance(error, GiveUp):
        return "gave_up"
    if isinstance(error, ChildFailed):
        return "child"
    if isinstance(error, StepTimeout):
        return "timeout"
    return "stopped" if isinstance(error, Canceled) else "error"


def _described_anyway(error: BaseException) -> tuple[str, str]:
    """Some exceptions raise when they are asked what they are. And every text must be one that can be written: a file's
    name in an error may hold what no encoding knows."""
    try:
        last, text = _described(error)
    except BaseException:  # noqa: BLE001 - the step failed already; how it is told must not fail the worker
        last, text = f"{_kind_of(error)}, which cannot be shown", ""
    return last.encode("utf-8", "replace").decode(), text.encode("utf-8", "replace").decode()


def _kind_of(error: BaseException) -> str:
    try:
        return str(type.__getattribute__(type(error), "__name__"))
    except BaseException:  # noqa: BLE001 - a metaclass that raises
        return "an exception"


def _described(error: BaseException) -> tuple[str, str]:
    """(the last line, the traceback from the step's own first line on)."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        frames = frames.tb_next
    told = traceback.TracebackException(type(error), error, frames, compact=True)
    text = veil.masked("".join(told.format()))
    if len(text) > _MOST_TRACEBACK:
        text = text[: _MOST_TRACEBACK // 4] + "\n  …\n" + text[-_MOST_TRACEBACK * 3 // 4 :]
    own = isinstance(error, NbflowError)  # people know ours without the module it lies in
    last = f"{type(error).__name__}: {error}" if own else "".join(traceback.format_exception_only(error)).strip()
    return veil.masked(last)[:4000], text
