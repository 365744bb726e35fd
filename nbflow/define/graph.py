"""The steps of a flow as a graph: who feeds whom, where it turns in circles, and the networkx graph for people.

Only `build_graph` loads networkx, so that the rest stays cheap to import. Nothing here knows functions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from nbflow.errors import FlowShapeError
from nbflow.model.definition import FlowSpec, Form, StepSpec, step_topic

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Wiring", "build_graph", "cycles", "form_label", "source_key"]

_WAITS_FOR_THE_END = (Form.COLLECT, Form.KEEP, Form.COMPLETED)
_FORM_LABELS = {
    Form.FIRST: "",
    Form.EACH: "each",
    Form.COLLECT: "collect",
    Form.KEEP: "collect (failures kept)",
    Form.COMPLETED: "completed",
}


def source_key(topic: str) -> str:
    """What a topic depends on: `step:<s>` for each of the topics that a step makes, else the topic itself."""
    _, colon, step = topic.partition(":")
    return step_topic(step) if colon else topic


def form_label(form: Form, *, any_of: bool = False) -> str:
    """The word of a form on an edge; empty for a plain subscription."""
    return "any_of" if any_of else _FORM_LABELS[form]


class Wiring:
    """Which step feeds which, kept up while steps come and go, so that a circle is found without a scan of the flow."""

    def __init__(self) -> None:
        self._inputs: dict[str, dict[str, Form]] = {}
        self._outputs: dict[str, tuple[str, ...]] = {}
        self._subscribers: dict[str, dict[str, Form]] = {}
        self._emitters: dict[str, dict[str, None]] = {}  # a dict for its order

    def add(self, step: str, inputs: Mapping[str, Form], emits: Iterable[str]) -> None:
        """Connect a step. `inputs` are the keys of its sources with their form."""
        self._inputs[step] = dict(inputs)
        self._outputs[step] = (step_topic(step), *emits)
        for key, form in inputs.items():
            self._subscribers.setdefault(key, {})[step] = form
        for key in self._outputs[step]:
            self._emitters.setdefault(key, {})[step] = None

    def remove(self, step: str) -> None:
        for key in self._inputs.pop(step, {}):
            del self._subscribers[key][step]
        for key in self._outputs.pop(step, ()):
            self._emitters[key].pop(step, None)

    def feeds(self, step: str) -> Iterator[tuple[str, Form]]:
        """The steps that subscribe to what the step emits."""
        for key in self._outputs[step]:
            yield from self._subscribers.get(key, {}).items()

    def fed_by(self, step: str) -> Iterator[tuple[str, Form]]:
        """The steps that emit what the step subscribes to."""
        for key, form in self._inputs[step].items():
            for emitter in self._emitters.get(key, ()):
                yield emitter, form

    def refuse_cycle_through(self, step: str) -> None:
        """A circle must pass an `each`, and no form that waits for an end: such a step would wait for itself.

        Only circles through the given step are looked at: the others were, when their last step came.
        """
        forward = _reach(step, self.feeds)
        if step not in forward:
            return
        path = _path_back(step, self._feeds_but_each)
        if path:
            message = f"The cycle {' → '.join(path)} passes no each, so its steps would wait for each other."
            raise FlowShapeError(message, hint="Let one step of the cycle subscribe with each(...).")
        circle = forward.keys() & _reach(step, self.fed_by).keys()
        for source in circle:
            for target, form in self.feeds(source):
                if target in circle and form in _WAITS_FOR_THE_END:
                    raise self._waits_for_itself(source, target, form)

    def cycles(self) -> list[list[str]]:
        """The steps that can feed themselves, in groups that close together; each group in order of definition."""
        place = {step: number for number, step in enumerate(self._outputs)}
        groups = _Components(self._next).search(self._outputs)
        kept = [sorted((node for node in group if node in place), key=place.__getitem__) for group in groups]
        return sorted((group for group in kept if group), key=lambda group: place[group[0]])

    def _feeds_but_each(self, step: str) -> Iterator[tuple[str, Form]]:
        return ((target, form) for target, form in self.feeds(step) if form is not Form.EACH)

    def _next(self, node: str) -> Iterable[str]:
        """Steps and their outputs alternate: a topic of many emitters and many subscribers costs their sum, not their
        product. An output is marked, because a topic may be called like a step."""
        if node.startswith(">"):
            return self._subscribers.get(node[1:], {})
        return [f">{key}" for key in self._outputs[node]]

    def _waits_for_itself(self, source: str, target: str, form: Form) -> FlowShapeError:
        path = [source, target, *([] if source == target else _path_to(target, source, self.feeds))]
        message = (
            f"{target!r} subscribes with {form_label(form)} to {source!r}, which it feeds itself "
            f"({' → '.join(path)}): it would wait for its own end."
        )
        return FlowShapeError(message, hint=f"Take {target!r} out of the cycle.")


_Neighbours = Callable[[str], Iterable[tuple[str, Form]]]


def _reach(start: str, neighbours: _Neighbours) -> dict[str, str]:
    """What can be reached in one step or more, with the node from which it was reached."""
    reached: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        for other, _ in neighbours(node):
            if other not in reached:
                reached[other] = node
                waiting.append(other)
    return reached


def _path_back(start: str, neighbours: _Neighbours) -> list[str]:
    """The way from a node back to itself; empty if there is none."""
    return [start, *_path_to(start, start, neighbours)] if start in _reach(start, neighbours) else []


def _path_to(start: str, end: str, neighbours: _Neighbours) -> list[str]:
    """The nodes after a start up to an end that can be reached from it."""
    reached = _reach(start, neighbours)
    path = [end]
    node = reached[end]
    while node != start:
        path.append(node)
        node = reached[node]
    return path[::-1]


class _Components:
    """Strongly connected components of more than one node (Tarjan, on a stack of its own: flows may be deep)."""

    def __init__(self, following: Callable[[str], Iterable[str]]) -> None:
        self.found: list[list[str]] = []
        self._following = following
        self._order: dict[str, int] = {}
        self._low: dict[str, int] = {}
        self._open: dict[str, None] = {}  # nodes that may still belong to a component under way, the newest last
        self._work: list[tuple[str, Iterator[str]]] = []

    def search(self, nodes: Iterable[str]) -> list[list[str]]:
        for root in nodes:
            if root not in self._order:
                self._enter(root)
            while self._work:
                self._go_on()
        return self.found

    def _enter(self, node: str) -> None:
        self._order[node] = self._low[node] = len(self._order)
        self._open[node] = None
        self._work.append((node, iter(self._following(node))))

    def _go_on(self) -> None:
        node, rest = self._work[-1]
        for other in rest:
            if other not in self._order:
                self._enter(other)
                return
            if other in self._open:
                self._low[node] = min(self._low[node], self._order[other])
        self._work.pop()
        if self._work:
            above = self._work[-1][0]
            self._low[above] = min(self._low[above], self._low[node])
        if self._low[node] == self._order[node]:
            self._close(node)

    def _close(self, node: str) -> None:
        group = [self._open.popitem()[0]]
        while group[-1] != node:
            group.append(self._open.popitem()[0])
        if len(group) > 1:
            self.found.append(group)


def cycles(spec: FlowSpec) -> list[list[str]]:
    """The groups of steps that feed themselves, in order of definition. They close together."""
    wiring = Wiring()
    for step in spec.steps:
        wiring.add(
            step.name, {source_key(topic): term.form for term in step.terms for topic in term.topics}, step.topics
        )
    return wiring.cycles()


def build_graph(spec: FlowSpec) -> nx.MultiDiGraph[str]:
    """The flow for networkx. Nodes: steps, with role, doc, queue, mapped, label. Edges, keyed by topic: topic, form,
    label. A topic that nobody emits has no edge."""
    import networkx as nx  # noqa: PLC0415 - loads slowly, and only people need it

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(name=spec.name)
    emitters: dict[str, list[str]] = {}
    for step in spec.steps:
        graph.add_node(step.name, **_node(step))
        for topic in (step_topic(step.name), *step.topics):
            emitters.setdefault(topic, []).append(step.name)
    edges = [(step.name, term, topic) for step in spec.steps for term in step.terms for topic in term.topics]
    for subscriber, term, topic in edges:
        for emitter in emitters.get(source_key(topic), ()):
            graph.add_edge(emitter, subscriber, key=topic, **_edge(topic, term.form, term.any_of))
    return graph


def _node(step: StepSpec) -> dict[str, object]:
    return {
        "role": "entry" if step.is_entry else "step",
        "doc": step.doc,
        "queue": step.queue,
        "mapped": step.is_mapped,
        "label": step.name,
    }


def _edge(topic: str, form: Form, any_of: bool) -> dict[str, object]:
    prefix, colon, _ = topic.partition(":")
    name = topic if not colon else "failed" if prefix == "failed" else ""
    words = [word for word in (form_label(form, any_of=any_of), name) if word]
    return {"topic": topic, "form": form, "label": " ".join(words)}
