"""From a flow to its plan table: what the scripts read to decide what happens next.

The table is a hash, read field by field, never whole:

    step:<s>   what s subscribes to, receives, emits, closes
    on:<a>     who subscribes to topic a, and what has to be kept of its emissions
    cycle:<i>  the steps of a cycle and how many steps outside feed it
    from:<s>   the steps before s
    entries leaves steps closed cycles   names of steps; topics that nobody emits; numbers of the cycles
    limits     what ends a run before its time, when it is stalled, and how long it is kept
    kept       topics of which payloads or indexes are kept, for who removes a run

The worker reads a `Route` of the same flow instead: which emissions of a step anybody wants.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbflow.define.awaits import hold_entry, lookbacks
from nbflow.define.graph import cycles
from nbflow.define.limits import limits_of
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, failed_topic, spread_topic, step_topic
from nbflow.model.policy import seconds

__all__ = ["Plan", "Route", "compile_plan", "digest_of_table", "leaves", "routes"]

_WAITS_FOR_CLOSING = (Form.COLLECT, Form.KEEP, Form.COMPLETED)


@dataclass(frozen=True, slots=True)
class Plan:
    """The table (field -> text) and its digest (32 hexadecimal digits of its SHA-256)."""

    table: dict[str, str]
    digest: str


@dataclass(frozen=True, slots=True)
class Route:
    """Which emissions of a step are wanted: its result, the elements of its result, its failures; and for each topic
    the steps that name its elements by their `key=`."""

    result: bool
    spread: bool
    failed: bool
    keyed_by: dict[str, tuple[str, ...]]
    wanted_failures: dict[int, tuple[str, ...]]
    """For each KEEP term (by its position): the steps whose failures it takes."""


class _Wiring:
    """Who emits what, and who is subscribed to it."""

    def __init__(self, flow: FlowSpec) -> None:
        self.flow = flow
        self.by_name = {step.name: step for step in flow.steps}
        self.emitters: dict[str, list[str]] = defaultdict(list)
        for step in flow.steps:
            for topic in (*step.topics, step_topic(step.name), spread_topic(step.name), failed_topic(step.name)):
                self.emitters[topic].append(step.name)
        self.subscribers: dict[str, list[tuple[StepSpec, int, Term]]] = defaultdict(list)
        for step in flow.steps:
            for number, term in _numbered(step):
                for topic in term.topics:
                    self.subscribers[topic].append((step, number, term))
        self.announced = {topic for step in flow.steps for topic in step.announces}
        self.cycle_of = {name: i for i, members in enumerate(cycles(flow)) for name in members}
        self.kept_failures = {name for step in flow.steps for name in self.kept_by(step)}

    def before(self, step: StepSpec) -> Iterable[str]:
        """The steps whose emissions, completion or failure `step` waits for."""
        return (name for term in step.terms for topic in term.topics for name in self.emitters.get(topic, ()))

    def short_sources(self, term: Term) -> list[str]:
        """The steps a failure of which makes this subscription short, nearest first."""
        found: dict[str, None] = {}
        front = [name for topic in term.topics for name in self.emitters.get(topic, ())]
        while front:
            name = front.pop(0)
            if name in found:
                continue
            found[name] = None
            for t in self.by_name[name].terms:
                if t.form is not Form.KEEP:
                    front += [n for a in t.topics if not a.startswith("failed:") for n in self.emitters.get(a, ())]
        return list(found)

    def handled_by(self, step: StepSpec) -> list[str]:
        """The steps whose failures, also later ones, are answered for when `step` completes."""
        topics = [topic for term in step.terms for topic in term.topics]
        return [topic.partition(":")[2] for topic in topics if topic.startswith("failed:")]

    def kept_by(self, step: StepSpec) -> list[str]:
        """The steps whose failures up to then are answered for when `step` completes, because it took them."""
        kept = [name for term in step.terms if term.form is Form.KEEP for name in self.short_sources(term)]
        return list(dict.fromkeys(kept))

    def watched(self) -> set[str]:
        """The steps whose closing somebody waits for: all that lie before a collect, completed or failed."""
        waits = [s for s in self.flow.steps if any(t.form in _WAITS_FOR_CLOSING or _has_failed(t) for t in s.terms)]
        found: set[str] = set()
        front = [name for step in waits for name in self.before(step)]
        while front:
            name = front.pop()
            if name not in found:
                found.add(name)
                front += self.before(self.by_name[name])
        return found


def compile_plan(flow: FlowSpec, code_names: Mapping[str, str] | None = None) -> Plan:
    """The plan table of a flow. The same flow gives the same digest in every process. `code_names` are those under which
    the ends of steps with `cache=` are kept (`caching.py`); without one, none are."""
    names = code_names or {}
    wiring = _Wiring(flow)
    watched = wiring.watched()
    table: dict[str, Any] = {
        "entries": [step.name for step in flow.steps if step.is_entry],
        "steps": [step.name for step in flow.steps],
        "leaves": [flow.result] if flow.result else leaves(flow),
        "limits": _limits(flow) | ({"cached": 1} if names else {}),
        "closed": sorted(topic for topic in wiring.subscribers if not wiring.emitters.get(topic)),
        "cycles": sorted(set(wiring.cycle_of.values())),
    }
    topics = _topics(wiring)
    for topic, entry in topics.items():
        table[f"on:{topic}"] = entry
    table["kept"] = _kept(flow, topics)
    for position, step in enumerate(flow.steps):
        limits = limits_of(flow, step)
        more: dict[str, Any] = {"lim": limits} if limits else {}
        if step.name in names and step.cache_s is not None:
            more["cache"] = [names[step.name], max(1, round(step.cache_s * 1000))]
        table[f"step:{step.name}"] = more | _step(wiring, step, position, watched, topics)
        table[f"from:{step.name}"] = list(dict.fromkeys(wiring.before(step)))
    for i in sorted(set(wiring.cycle_of.values())):
        members = [name for name, number in wiring.cycle_of.items() if number == i]
        watch = {"w": 1} if watched & set(members) else {}
        table[f"cycle:{i}"] = {"members": sorted(members), "ext": len(_feeders(wiring, i))} | watch
    text = {field: json.dumps(value, separators=(",", ":")) for field, value in table.items()}
    return Plan(text, digest_of_table(text))


def digest_of_table(table: Mapping[str, str]) -> str:
    """The name of a plan: 32 hexadecimal digits of the SHA-256 of its table."""
    return hashlib.sha256(json.dumps(dict(table), sort_keys=True).encode()).hexdigest()[:32]


def _kept(flow: FlowSpec, topics: dict[str, dict[str, Any]]) -> list[str]:
    """Topics for which a run has a key of payloads or of indexes."""
    joined = [f"@{step.name}" for step in flow.steps if len(step.each) > 1]
    return sorted(topic for topic, entry in topics.items() if "keep" in entry or "order" in entry) + joined


def _limits(flow: FlowSpec) -> dict[str, Any]:
    """What ends a run before its time, when it is stalled, how long it is kept after its end, and how long the events are
    that it may look back for."""
    limits: dict[str, Any] = {"tasks": flow.max_tasks, "stall": max(1, round(flow.stall_after_s * 1000))}
    if flow.on_failure == "cancel":
        limits["cancel"] = 1
    if flow.retention_s is not None and math.isfinite(flow.retention_s):
        limits["retention"] = round(flow.retention_s * 1000)
    if flow.deadline_s is not None:
        limits["deadline"] = round(flow.deadline_s * 1000)
    kept = lookbacks(flow.steps)
    if kept:
        limits["lookbacks"] = kept
    return limits


def leaves(flow: FlowSpec) -> list[str]:
    """The steps nothing subscribes to; a subscription to their failure does not count. Who is only told of waits is none."""
    announced = {topic for step in flow.steps for topic in step.announces}
    taken = {topic for step in flow.steps for term in step.terms for topic in term.topics}
    own = {step.name: {step_topic(step.name), spread_topic(step.name), *step.emits} for step in flow.steps}
    return [step.name for step in flow.steps if not own[step.name] & taken and not step.is_only_told(announced)]


def routes(flow: FlowSpec) -> dict[str, Route]:
    """For each step, which of its emissions are wanted."""
    wiring = _Wiring(flow)
    topics = _topics(wiring)
    return {
        step.name: Route(
            result=step_topic(step.name) in topics,
            spread=spread_topic(step.name) in topics,
            failed=failed_topic(step.name) in topics,
            keyed_by=_keyed_by(wiring, topics, step),
            wanted_failures={
                i: tuple(wiring.short_sources(t)) for i, t in enumerate(step.terms) if t.form is Form.KEEP
            },
        )
        for step in flow.steps
    }


def _keyed_by(wiring: _Wiring, topics: dict[str, dict[str, Any]], step: StepSpec) -> dict[str, tuple[str, ...]]:
    """Topics of `step` whose elements a subscriber names. Where the script numbers the emissions, no name can be given."""
    own = (*step.topics, step_topic(step.name), spread_topic(step.name))
    keyed = {
        topic: tuple(
            s.name
            for s, _, t in wiring.subscribers.get(topic, ())
            if s.has_key and t.form is Form.EACH and t.topics[0] == topic
        )
        for topic in own
        if not topics.get(topic, {}).get("numbered")
    }
    return {topic: steps for topic, steps in keyed.items() if steps}


def _numbered(step: StepSpec) -> Iterable[tuple[int, Term]]:
    """The terms with the numbers the scripts use: 1, 2, … for all but each, which has 0."""
    number = 0
    for term in step.terms:
        if term.form is Form.EACH:
            yield 0, term
        else:
            number += 1
            yield number, term


def _has_failed(term: Term) -> bool:
    return any(topic.startswith("failed:") for topic in term.topics)


def _topics(wiring: _Wiring) -> dict[str, dict[str, Any]]:
    topics = {topic: _topic(wiring, topic) for topic in wiring.subscribers}
    for name in wiring.kept_failures:
        topics.setdefault(failed_topic(name), {"to": [], "em": 1})["keep"] = 1
    return topics


def _topic(wiring: _Wiring, topic: str) -> dict[str, Any]:
    subscribers = wiring.subscribers[topic]
    emitters = wiring.emitters.get(topic, [])
    forms = {term.form for _, _, term in subscribers}
    of_mapped = any(wiring.by_name[name].is_mapped for name in emitters)
    entry: dict[str, Any] = {
        "to": [[s.name, k, str(t.form), len(t.topics)] for s, k, t in subscribers if t.form is not Form.COMPLETED],
        "em": len(emitters),
    }
    flags = {
        "closing": forms & {Form.EACH, Form.COLLECT, Form.KEEP},
        "first": Form.FIRST in forms or (Form.COMPLETED in forms and not of_mapped),
        "keep": forms & {Form.EACH, Form.COLLECT, Form.KEEP} or (Form.COMPLETED in forms and of_mapped),
        "order": any(t.form is Form.EACH and len(t.topics) == 1 for _, _, t in subscribers),
        "numbered": len(emitters) > 1 or topic in wiring.announced or any(name in wiring.cycle_of for name in emitters),
    }
    return entry | {flag: 1 for flag, on in flags.items() if on}


def _step(wiring: _Wiring, step: StepSpec, position: int, watched: set[str], topics: dict[str, Any]) -> dict[str, Any]:
    each = step.each
    entry: dict[str, Any] = {
        "queue": step.queue,
        "pos": position,
        "need": sum(term.form is not Form.EACH for term in step.terms),
        "bind": [["i"]] if step.is_entry else [_bind(wiring, k, t) for k, t in _numbered(step)],
    }
    if each:
        entry |= {"each": list(each), "order": each[0] if len(each) == 1 else f"@{step.name}"}
    if step.has_key:
        entry["key"] = 1
    if step.priority:
        entry["priority"] = step.priority
    if step.retry is not None and step.retry.wants(TimeoutError(), 1):  # what the script needs after a kill
        entry["retry"] = [
            step.retry.max_attempts,
            *(round(seconds(d) * 1000) for d in (step.retry.backoff, step.retry.max_delay)),
        ]
    if step.isolation:
        entry["apart"] = 1
    if step.hold is not None:
        entry["hold"] = hold_entry(step.hold, "before")
        entry["bind"].append(["r"])
    if step.hold_emits is not None:
        entry["after"] = hold_entry(step.hold_emits, "after")
    answers = {"handles": wiring.handled_by(step), "keeps": wiring.kept_by(step)}
    entry |= {how: names for how, names in answers.items() if names}
    if step.name in watched:
        entry["w"] = 1
    return entry | _closing(wiring, step, topics)


def _closing(wiring: _Wiring, step: StepSpec, topics: dict[str, Any]) -> dict[str, Any]:
    """What the end of a step means to others. Of a step nobody watches it counts when nothing of the run is outstanding."""
    own = (*step.topics, step_topic(step.name), spread_topic(step.name))
    comp = [[s.name, k] for s, k, t in wiring.subscribers.get(step_topic(step.name), ()) if t.form is Form.COMPLETED]
    feeds = sorted({i for i in set(wiring.cycle_of.values()) if step.name in _feeders(wiring, i)})
    parts: dict[str, Any] = {
        "closes": [topic for topic in own if topic in topics and topics[topic]["to"]],
        "comp": comp,
        "fails": 1 if failed_topic(step.name) in topics else 0,
        "feeds": feeds,
        "cycle": str(wiring.cycle_of[step.name]) if step.name in wiring.cycle_of else 0,
    }
    return {name: value for name, value in parts.items() if value}


def _bind(wiring: _Wiring, number: int, term: Term) -> list[Any]:
    """What a claim hands to the worker for a term: `p` a first payload, `a` the topic that came and its payload, `e` the
    payloads of an index; `g` nothing: the worker gathers a closed topic by itself. (`r`, the last, is the answer to the step's hold.)"""
    if term.form is Form.EACH:
        return ["e", *term.topics]
    if term.any_of:
        return ["a", number]
    if term.form is Form.FIRST:
        return ["p", term.topics[0]]
    if term.form is Form.COMPLETED and not any(wiring.by_name[n].is_mapped for n in wiring.emitters[term.topics[0]]):
        return ["p", term.topics[0]]
    return ["g"]


def _feeders(wiring: _Wiring, cycle: int) -> set[str]:
    members = {name for name, number in wiring.cycle_of.items() if number == cycle}
    return {name for member in members for name in wiring.before(wiring.by_name[member])} - members
