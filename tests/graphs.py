"""Flows by a few words, for tests of the scripts: `flow(step("a"), step("b", each("each:a")))`."""

from __future__ import annotations

from nbflow.model.definition import FlowSpec, Form, StepSpec, Term

__all__ = ["any_of", "chain", "collect", "completed", "each", "first", "flow", "keep", "mapped", "step"]


def flow(*steps: StepSpec, name: str = "f", result: str | None = None) -> FlowSpec:
    return FlowSpec(name, steps, result)


def step(
    name: str, *terms: Term, emits: tuple[str, ...] = (), queue: str = "default", has_key: bool = False
) -> StepSpec:
    return StepSpec(name, terms, emits, queue, has_key)


def first(topic: str) -> Term:
    """A plain subscription; `failed(s)` is one to the topic `failed:s`."""
    return Term(Form.FIRST, (topic,))


def any_of(*topics: str) -> Term:
    return Term(Form.FIRST, topics, any_of=True)


def each(*topics: str) -> Term:
    return Term(Form.EACH, topics)


def collect(topic: str) -> Term:
    return Term(Form.COLLECT, (topic,))


def keep(topic: str) -> Term:
    return Term(Form.KEEP, (topic,))


def completed(name: str) -> Term:
    return Term(Form.COMPLETED, (f"step:{name}",))


def chain(length: int) -> FlowSpec:
    """s0 → s1 → …, by results."""
    return flow(step("s0"), *(step(f"s{i}", first(f"step:s{i - 1}")) for i in range(1, length)))


def mapped() -> FlowSpec:
    """`a` spreads its list over `b`, and `c` collects."""
    return flow(step("a"), step("b", each("each:a")), step("c", collect("step:b")))
