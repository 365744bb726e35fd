"""A worker without a process, for the property tests: claims all there is, ends tasks as a real worker would (by
`nbflow.worker.ending`), and tells what each task received."""

from __future__ import annotations

import json
from typing import Any

from nbflow.define.plan import routes
from nbflow.model.codec import Codec
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term
from nbflow.model.ids import index_sort_key
from nbflow.store.connect import Store
from nbflow.worker.context import Emission
from nbflow.worker.ending import Attempt
from nbflow.worker.task import Ending, Job
from tests.machine import Claimed, Machine
from tests.property.random_flows import Deed

__all__ = ["StandIn", "key_of"]


def key_of(element: Any) -> str:
    """The `key=` of every step that has one."""
    return f"key of {element}"


class StandIn:
    def __init__(self, store: Store, flow: FlowSpec) -> None:
        self.store, self.flow = store, flow
        self.machine = Machine(store, flow)
        self.machine.birth("w")
        self.routes = routes(flow)
        self.codec = Codec()
        self.keys = {step.name: key_of for step in flow.steps if step.has_key}
        self.mapped = {step.name for step in flow.steps if step.is_mapped}

    def claim_all(self) -> list[Claimed]:
        self.machine.slice_all()
        claimed: list[Claimed] = []
        while (task := self.machine.claim("w")) is not None:
            claimed.append(task)
        return claimed

    def ending(self, task: Claimed, deed: Deed) -> Ending:
        """What a real worker would make of the deed."""
        step_name = task.task.partition("[")[0]
        attempt = Attempt(_job(task), self.flow.step(step_name), self.routes[step_name], self.codec, self.keys)
        if deed.fails:
            return attempt.failed(ValueError(task.task), 0.001, None)
        calls = [Emission(call.topic, list(call.values), many=call.many) for call in deed.calls]
        looked = {"key"} if attempt.step.has_key else set[str]()
        return attempt.completed(deed.returns, calls, [], 0.001, looked=looked)

    def settle(self, task: Claimed, deed: Deed) -> None:
        self.end(task, self.ending(task, deed))

    def end(self, task: Claimed, ended: Ending) -> None:
        status, _ = self.machine.settle(task, ended.emits, outcome=ended.outcome, data=ended.data)
        assert status == "OK"

    def cancel(self, task: Claimed) -> None:
        """A person cancels the task; the worker that has it is told that its result does not count."""
        assert self.machine.act(task, "cancel", '{"reason":"by_hand"}') == [b"OK"]
        assert self.machine.settle(task)[0] == "AGAIN"

    def complete_by_hand(self, task: Claimed, deed: Deed) -> None:
        """A person gives what the task would have come to."""
        ended = self.ending(task, deed)
        assert self.machine.act(task, "complete", ended.data, ended.emits) == [b"OK"]
        assert self.machine.settle(task)[0] == "AGAIN"

    def retry(self, task: Claimed) -> Claimed:
        """A person has the task tried again; the next attempt is claimed."""
        data = '{"error":"by hand","traceback":"","reason":"by_hand","delay":0}'
        assert self.machine.act(task, "retry", data) == [b"OK"]
        again = self.machine.claim("w")
        assert again is not None
        assert (again.task, again.attempt, again.payloads) == (task.task, task.attempt + 1, task.payloads)
        return again

    def received(self, task: Claimed) -> list[Any]:
        """As `Model.receives` says it."""
        step = self.flow.step(task.task.partition("[")[0])
        if step.is_entry:
            return []
        payloads = iter(task.payloads)
        return [value for term in step.terms for value in self._term(step, task, term, payloads)]

    def _term(self, step: StepSpec, task: Claimed, term: Term, payloads: Any) -> list[Any]:
        if term.any_of:
            return [(next(payloads), json.loads(next(payloads)))]
        of_a_map = term.form is Form.COMPLETED and term.topics[0].partition(":")[2] in self.mapped
        if term.form in (Form.COLLECT, Form.KEEP) or of_a_map:
            texts: dict[str, str] = self.store.text.hgetall(self.store.keys.emits(task.run, term.topics[0]))  # pyright: ignore[reportAssignmentType]
            return [[json.loads(texts[index]) for index in sorted(texts, key=index_sort_key)]]
        return [json.loads(next(payloads)) for _ in term.topics]


def _job(task: Claimed) -> Job:
    return Job(task.job, task.run, task.task, task.attempt, task.queue, None, 0, "", "b", "s", "", "", "", ())
