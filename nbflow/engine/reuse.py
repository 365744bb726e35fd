"""The ends of tasks of an earlier run, written again for the code of a new one: what `lua/parts/reuse.lua` takes over.

Payloads are copied as they were written and signed. An emission that the new code wants and the old one did not (its
result spread over tasks, names for elements) is made of them. What cannot be made is left out: that task is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from nbflow.define.numbering import Numbers
from nbflow.define.plan import Route, routes
from nbflow.errors import ArtifactMissing, NbflowError
from nbflow.model.codec import Codec
from nbflow.model.definition import FlowSpec, StepSpec, spread_topic, step_topic
from nbflow.model.encoder import to_json
from nbflow.model.history import Call, End
from nbflow.model.receipt import Keeps, receipt

__all__ = ["EarlierRun", "KeyFunctions", "Outcome", "Rewriter"]

KeyFunctions = Mapping[str, Callable[[Any], Any] | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An end that may be taken over: its place among all of them, the receipt of what the task got, the data of its
    `step.completed`, and its emissions as `settle` takes them."""

    rank: int
    receipt: str
    data: str
    emits: list[Any]

    def text(self) -> str:
        """As it is staged."""
        return f"{self.rank} {self.receipt} {to_json([self.data, self.emits])}"


class EarlierRun(Keeps, Protocol):
    """What is kept of the run that is gone on from."""

    def step_entry(self, step: str, /) -> dict[str, Any] | None:
        """The step in its plan table."""
        ...

    def emitted(self, topic: str, /) -> Mapping[str, str] | None:
        """The payloads of a topic by index, if they are kept."""
        ...

    def name(self, task: str, /) -> str | None:
        """What `key=` called an element."""
        ...


class _Unknown(Exception):
    """Something of the end cannot be made from what is there."""


class Rewriter:
    """Writes ends anew for one flow. `renamed` are the steps whose `key=` may be another one by now."""

    def __init__(
        self, flow: FlowSpec, earlier: EarlierRun, codec: Codec, keys: KeyFunctions, renamed: frozenset[str]
    ) -> None:
        self._steps, self._routes = {step.name: step for step in flow.steps}, routes(flow)
        self._earlier, self._codec, self._keys, self._renamed = earlier, codec, keys, renamed

    def outcome(self, end: End) -> Outcome | None:
        """The end for the new code, or None: the task is executed."""
        step, entry = self._steps.get(end.step), self._earlier.step_entry(end.step)
        if step is None or entry is None or step.is_mapped != bool(end.index):
            return None
        try:
            data, emits = self._written(step, end)
        except (_Unknown, ArtifactMissing):
            return None
        return Outcome(end.rank, receipt(end.step, entry, end.index, self._earlier), data, emits)

    def _written(self, step: StepSpec, end: End) -> tuple[str, list[Any]]:
        """The same groups, in the same order, as `worker/ending.py` makes of values."""
        route, calls = self._routes[step.name], _calls_for(step, end)
        emits, elements = _Groups(self, route), self._spread(step, end) if route.spread else []
        if route.spread:
            emits.name(spread_topic(step.name), [(str(i), text) for i, text in enumerate(elements)])
        numbers = Numbers(end.index, calls)
        for call in calls:
            self._emit(emits, numbers, call)
        if route.result:
            pair = (end.index or "0", to_json(end.value))
            emits.name(step_topic(step.name), [pair])
            emits.add(step_topic(step.name), "silent", [pair])
        if route.spread:
            emits.add(spread_topic(step.name), "silent", [(str(i), text) for i, text in enumerate(elements)])
        is_emitted = len(calls) == 1 and not calls[0].many and calls[0].payload is end.value
        shown: Any = {"$emit": calls[0].topic} if is_emitted else end.value
        data: dict[str, Any] = {"result": shown, "duration": end.duration}
        return to_json(data | {"reused": {"run": end.run, "fingerprint": end.fingerprint}}), emits.flat

    def _emit(self, emits: _Groups, numbers: Numbers, call: Call) -> None:
        texts = self._elements(call.payload) if call.many else [to_json(call.payload)]
        pairs = list(zip(numbers.take(call.topic, len(texts)), texts, strict=True))
        emits.name(call.topic, pairs)
        emits.add(call.topic, "many" if call.many else "one", pairs, to_json(call.payload) if call.many else "")

    def _spread(self, step: StepSpec, end: End) -> list[str]:
        """The elements of a result: as they were spread, else as they can be read from it."""
        kept = self._earlier.emitted(spread_topic(step.name))
        if kept is not None:
            return [kept[str(i)] for i in range(len(kept))]
        return self._elements(end.value)

    def _elements(self, tree: Any) -> list[str]:
        if isinstance(tree, list):
            return [to_json(item) for item in cast("list[Any]", tree)]
        node = cast("dict[str, Any]", tree) if isinstance(tree, dict) else {}
        if node.get("$t") in ("tuple", "set", "frozenset") and isinstance(node.get("v"), list):
            return self._elements(node["v"])
        if "$ref" in node and node.get("kind") == "json" and self._codec.artifacts is not None:
            return self._elements(json.loads(bytes(self._codec.artifacts.get(node["$ref"]))))
        if node.get("$t") == "range":
            return [self._codec.encode(item) for item in self._codec.decode_value(tree)]
        raise _Unknown

    def names(self, subscriber: str, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """What `subscriber` calls the elements: as it was, else by its `key=`."""
        function = self._keys.get(subscriber)
        is_other = function is not None and subscriber in self._renamed
        return [(index, self._name(f"{subscriber}[{index}]", text, function, is_other)) for index, text in pairs]

    def _name(self, task: str, text: str, function: Callable[[Any], Any] | None, is_other: bool) -> str:
        known = None if is_other else self._earlier.name(task)
        if known is not None:
            return known
        if function is None:
            raise _Unknown
        try:
            return str(function(self._codec.decode(text)))
        except NbflowError:
            raise
        except Exception as error:  # the author's; the task that emits it will tell it
            raise _Unknown from error


class _Groups:
    """Emissions as `settle` takes them."""

    def __init__(self, rewriter: Rewriter, route: Route) -> None:
        self.flat: list[Any] = []
        self._rewriter, self._route = rewriter, route

    def add(self, topic: str, mode: str, pairs: list[tuple[str, str]], text: str = "") -> None:
        self.flat += [topic, mode, text, len(pairs)]
        for pair in pairs:
            self.flat += pair

    def name(self, topic: str, pairs: list[tuple[str, str]]) -> None:
        """Names come before the emission they name, so that the tasks are made with them."""
        for subscriber in self._route.keyed_by.get(topic, ()):
            self.add(subscriber, "key", self._rewriter.names(subscriber, pairs))


def _calls_for(step: StepSpec, end: End) -> list[Call]:
    """The emissions that the step declares now. A result that was emitted, or would be now, is emitted."""
    emits_result = len(step.emits) == 1 and (end.emitted_result or (not end.calls and end.value is not None))
    if emits_result:
        return [Call(step.emits[0], end.value)]
    return [call for call in end.calls if call.topic in step.emits]
