"""What of a flow is drawn, as plain frozen data: from the flow's spec, or from the `graph` that `flow.start` carries.

It holds names and forms, no code and no coordinates. Reading never fails: the JSON may come from another version, and
what does not fit is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, topic_label
from nbflow.model.view import View

__all__ = ["FlowPicture", "PictureEdge", "PictureNode", "picture_of", "picture_of_run"]

_WORDS = {Form.EACH: "each", Form.COLLECT: "collect", Form.KEEP: "collect", Form.COMPLETED: "completed"}
DOC_LENGTH = 200


@dataclass(frozen=True, slots=True)
class PictureNode:
    """A step, or a topic that is subscribed to and that nobody emits (role `missing`)."""

    name: str
    role: str = "step"  # entry | step | missing
    mapped: bool = False
    queue: str = ""  # empty for the default one
    doc: str = ""
    label: str = ""  # what is written, where that is not the name

    @property
    def text(self) -> str:
        return self.label or self.name


@dataclass(frozen=True, slots=True)
class PictureEdge:
    """What flows from one node to another. `topic` is empty where it is the source step itself."""

    source: str
    target: str
    topic: str = ""
    form: str = ""  # each | collect | completed | any of | failed | "" for a plain subscription


@dataclass(frozen=True, slots=True)
class FlowPicture:
    """Nodes in the order of their definition, and the edges between them."""

    flow: str
    nodes: tuple[PictureNode, ...] = ()
    edges: tuple[PictureEdge, ...] = ()

    @property
    def steps(self) -> tuple[PictureNode, ...]:
        return tuple(node for node in self.nodes if node.role != "missing")

    def to_json(self) -> dict[str, Any]:
        """Small JSON: fields that are as they are by default are left out."""
        return {
            "flow": self.flow,
            "nodes": [_without_defaults(node) for node in self.nodes],
            "edges": [_without_defaults(edge) for edge in self.edges],
        }

    @classmethod
    def from_json(cls, tree: object) -> FlowPicture:
        """The picture that `to_json` wrote. What does not fit is left out."""
        data: Mapping[str, object] = cast("Mapping[str, object]", tree) if isinstance(tree, Mapping) else {}
        nodes = {node.name: node for node in map(_node, _records(data.get("nodes"))) if node.name}
        edges = [edge for edge in map(_edge, _records(data.get("edges"))) if {edge.source, edge.target} <= nodes.keys()]
        return cls(_text(data.get("flow")), tuple(nodes.values()), tuple(dict.fromkeys(edges)))


def picture_of(spec: FlowSpec) -> FlowPicture:
    """The picture of a flow as it is defined now, finished or not."""
    nodes = {step.name: _node_of(step) for step in spec.steps}
    emitters: dict[str, list[str]] = {}
    for step in spec.steps:
        for topic in step.topics:
            emitters.setdefault(topic, []).append(step.name)
    edges = dict[PictureEdge, None]()
    for step in spec.steps:
        for term, topic in [(one, name) for one in step.terms for name in one.topics]:
            sources = _sources(topic, nodes, emitters)
            if not sources:
                sources = [topic]
                nodes[topic] = PictureNode(topic, "missing", label=topic_label(topic))
            edges.update(dict.fromkeys(_edge_of(source, step.name, topic, term) for source in sources))
    return FlowPicture(spec.name, tuple(nodes.values()), tuple(edges))


def picture_of_run(view: View) -> FlowPicture:
    """The picture that the run was started with. Steps that it lacks, and the view knows, stand on their own."""
    picture = FlowPicture.from_json(view.start.get("graph"))
    known = {node.name for node in picture.nodes}
    extra = tuple(PictureNode(name) for name in view.steps if name not in known)
    return FlowPicture(picture.flow or view.flow_name, picture.nodes + extra, picture.edges)


def _node_of(step: StepSpec) -> PictureNode:
    queue = "" if step.queue == "default" else step.queue
    doc = step.doc.strip().partition("\n")[0][:DOC_LENGTH]
    return PictureNode(step.name, "entry" if step.is_entry else "step", step.is_mapped, queue, doc)


def _sources(topic: str, nodes: Mapping[str, PictureNode], emitters: Mapping[str, list[str]]) -> list[str]:
    kind, colon, name = topic.partition(":")
    if not colon:
        return emitters.get(kind, [])
    return [name] if name in nodes and nodes[name].role != "missing" else []


def _edge_of(source: str, target: str, topic: str, term: Term) -> PictureEdge:
    kind, colon, _ = topic.partition(":")
    word = "any of" if term.any_of else _WORDS.get(term.form, "")
    if colon and kind == "failed":
        word = "each failed" if word == "each" else "failed"
    return PictureEdge(source, target, "" if colon else topic, word)


def _without_defaults(record: PictureNode | PictureEdge) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if value and (name, value) != ("role", "step")}


def _records(value: object) -> Iterable[Mapping[str, object]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, object]", item) for item in items if isinstance(item, Mapping)]


def _node(data: Mapping[str, object]) -> PictureNode:
    role = _text(data.get("role"))
    return PictureNode(
        _text(data.get("name")),
        role if role in {"entry", "missing"} else "step",
        data.get("mapped") is True,
        _text(data.get("queue")),
        _text(data.get("doc"))[:DOC_LENGTH],
        _text(data.get("label")),
    )


def _edge(data: Mapping[str, object]) -> PictureEdge:
    source, target, topic, form = (_text(data.get(name)) for name in ("source", "target", "topic", "form"))
    return PictureEdge(source, target, topic, form)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
