"""A task as it is handed to a worker, and its ending as it is handed back: the two forms between the scripts and the
execution. Nothing is decided here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from nbflow.model.ids import split_task

__all__ = ["Ending", "Job", "job_from_reply"]


@dataclass(slots=True)
class Job:
    """One execution to do. It does not change. (A frozen dataclass costs three times as much to make.) `payloads` are those that the claim could hand over, in the order of the subscriptions."""

    id: str
    run: str
    task: str
    attempt: int
    queue: str
    key: str | None
    recovered: int
    plan: str
    bundle: str
    signature: str
    flow: str
    input_digest: str
    run_queue: str
    payloads: tuple[bytes | None, ...]
    joins: str = ""
    """The run that it awaited, which has ended: its result is all that is left to take."""
    is_apart: bool = False
    """The plan says that it is executed in a process of its own. Nothing is trusted because of that."""
    step: str = field(init=False)
    index: str = field(init=False)

    def __post_init__(self) -> None:
        self.step, self.index = split_task(self.task)


def job_from_reply(reply: list[bytes | None]) -> Job:
    """What `offer` of `parts/job.lua` makes."""
    texts = [(part or b"").decode() for part in reply[:15]]
    (
        job, run, task, attempt, queue, key, recovered, plan, bundle, signature, flow, input_digest, run_queue, joins, apart,
    ) = texts  # fmt: skip
    return Job(
        job, run, task, int(attempt), queue, key or None, int(recovered or 0), plan, bundle, signature, flow, input_digest, run_queue,
        tuple(reply[15:]), joins, apart == "1",
    )  # fmt: skip


@dataclass(slots=True)
class Ending:
    """How an attempt ended: `completed`, `failed` or `retry`, the data of that event (JSON), and what it emits. One that
    awaits a run is `awaiting`, with the data of `await.registered`, and `joined` when that has ended.

    A group of `emits` is topic, mode, text, n, then n times index and payload; mode is `one` or `many` (an `emit` event
    is written), `silent` (the end of the step says it), `key` (names for the elements of the step that stands for the
    topic), or `start`: the topic is a run, and the pairs are fields of it. Starts come first. The very first may be `keep`: the
    end may be kept for other runs, with these artifacts (`keeping.py`).
    """

    outcome: str
    data: str
    emits: list[Any] = field(default_factory=list[Any])
    delay_ms: int | None = None
    """Of `retry`: when the next attempt begins."""
    opened: bool = True
    """False: the code was not opened, so it is not sure that the task is one of the run at all."""

    lacks: str = ""
    """Why this worker cannot open the code, where another may: the task goes back, and no attempt was made."""
    again_ms: int = 0
    """After which time this worker may try that code again."""

    def settled(self) -> Ending:
        """As it is settled by a worker beside which there are others."""
        if not self.lacks:
            return self
        return Ending("declined", json.dumps({"lacks": self.lacks, "again": self.again_ms}))

    def emit(self, topic: str, mode: str, pairs: list[tuple[str, str]], text: str = "") -> None:
        self.emits += [topic, mode, text, len(pairs)]
        for index, payload in pairs:
            self.emits += [index, payload]
