"""Drives the scripts by hand: a worker without processes, for contract and property tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbflow.define.caching import code_names
from nbflow.define.plan import compile_plan
from nbflow.define.sources import Project
from nbflow.model.definition import FlowSpec
from nbflow.model.events import Event
from nbflow.store.connect import Store
from nbflow.store.log import RunLog


@dataclass
class Claimed:
    job: str
    run: str
    task: str
    attempt: int
    queue: str
    lease: int
    worker: str
    payloads: list[str | None]
    joins: str | None = ""
    is_apart: bool = False


class Machine:
    """Launches runs of a flow and plays its workers, one script call at a time."""

    def __init__(self, store: Store, flow: FlowSpec) -> None:
        self.store, self.flow = store, flow
        prints = {one.name: "" for one in flow.steps}
        self.plan = compile_plan(flow, code_names(flow, prints, {}, Project(Path("/nowhere"))))
        self.queues = sorted({step.queue for step in flow.steps}) or ["default"]
        self.leases = 0
        self.upload()

    def upload(self) -> None:
        parts = [part for pair in self.plan.table.items() for part in pair]
        self.store.run_script("upload", *parts, kind="plan", digest=self.plan.digest)
        self.store.run_script("upload", b"bundle", kind="bundle", digest="b")

    def launch(
        self, run: str = "r1", value: str = "{}", key: str = "", *, queue: str = "", priority: str = "", delay: str = "",
        fields: tuple[str, ...] = (),
    ) -> list[Any]:  # fmt: skip
        start = json.dumps({"input": json.loads(value), "bundle": "b"})
        return self.store.run_script(
            "launch", *fields, id=run, flow=self.flow.name, plan=self.plan.digest, bundle="b", sig="s", input=value,
            inputdigest=value, start=start, key=key, tags="[]", queue=queue,
            priority=priority, delay=delay, by="{}",
        )  # fmt: skip

    def birth(self, worker: str) -> None:
        queues = ",".join(map(self.store.keys.rq_queue_name, self.queues))
        self.store.client.hset(self.store.keys.rq_worker(worker), mapping={"queues": queues, "state": "idle"})
        self.store.client.sadd("rq:workers", self.store.keys.rq_worker(worker))

    def claim(self, worker: str = "w", was: str = "idle") -> Claimed | None:
        self.leases += 1
        reply, *_ = self.store.run_script(
            "claim", keys=[self.store.keys.rq_queue(q) for q in self.queues], worker=worker, next=self.leases, was=was
        )
        return self._claimed(reply, worker, self.leases)

    def settle(
        self,
        task: Claimed,
        emits: list[Any] | None = None,
        *,
        outcome: str = "completed",
        data: str = "",
        want: bool = False,
    ) -> tuple[str, Claimed | None]:
        self.leases += 1
        data = data or (
            '{"result":null}' if outcome == "completed" else '{"error":"E: boom","traceback":"","reason":"error"}'
        )
        status, reply, *_ = self.store.run_script(
            "settle", *(emits or []), keys=[self.store.keys.rq_queue(q) for q in self.queues], worker=task.worker,
            want="1" if want else "0", job=task.job, lease=task.lease, next=self.leases, run=task.run, task=task.task,
            attempt=task.attempt, queue=task.queue, long="0", outcome=outcome, data=data,
        )  # fmt: skip
        return status.decode(), self._claimed(reply, task.worker, self.leases)

    def act(
        self, task: Claimed, what: str, data: str = "{}", emits: list[Any] | None = None, nonce: str = "n"
    ) -> list[bytes]:
        """By hand, to a task that was claimed once."""
        return self.store.run_script(
            "act", *(emits or []), run=task.run, task=task.task, attempt=task.attempt, what=what, data=data, nonce=nonce
        )

    def slice_all(self) -> int:
        calls = 0
        while self.store.client.exists(f"{self.store.keys.namespace}:slices"):
            self.store.run_script("slice")
            calls += 1
        return calls

    def events(self, run: str = "r1") -> list[Event]:
        return list(RunLog(self.store).read(run))

    def told(self, run: str = "r1") -> list[str]:
        """The events in short: `step.queued parse[3]`."""
        return [f"{event.type} {event.task}".strip() for event in self.events(run)]

    def run_field(self, field: str, run: str = "r1") -> Any:
        return self.store.text.hget(self.store.keys.run(run), field)

    @staticmethod
    def _claimed(reply: Any, worker: str, lease: int) -> Claimed | None:
        if not reply:
            return None
        texts: list[Any] = [None if part is None else part.decode() for part in reply]
        *facts, joins, apart = texts[:15]
        job, run, task, attempt, queue = facts[:5]
        return Claimed(job, run, task, int(attempt), queue, lease, worker, texts[15:], joins, is_apart=apart == "1")


def one(topic: str, payload: str = "1", index: str = "0") -> list[Any]:
    return [topic, "one", "", 1, index, payload]


def many(topic: str, payloads: list[str], prefix: str = "") -> list[Any]:
    flat: list[Any] = []
    for i, payload in enumerate(payloads):
        flat += [f"{prefix}{i}", payload]
    return [topic, "many", json.dumps([json.loads(p) for p in payloads]), len(payloads), *flat]


def silent(topic: str, payload: str = "1", index: str = "0") -> list[Any]:
    return [topic, "silent", "", 1, index, payload]
