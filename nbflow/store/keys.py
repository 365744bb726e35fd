"""How every key in Redis is spelled: here in Python, and in `lua/parts/*.lua` for what only scripts touch.

`P` is the namespace (default `nbflow`). Keys of RQ are RQ's own; a queue of the default namespace has its plain name
there, one of another namespace `<namespace>.<queue>`, so that two namespaces on one server never share a queue.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbflow.errors import CommandRefused

__all__ = ["FORMAT", "RQ", "Keys"]

FORMAT = 1
"""The format of everything below. A process of another format refuses the namespace with a sentence."""

RQ = "rq"
_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str = "nbflow"

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise CommandRefused(
                f"{self.namespace!r} cannot be a namespace.",
                hint="Use at most 40 letters, digits, '_' and '-', beginning with a letter.",
            )

    @property
    def queue_prefix(self) -> str:
        return "" if self.namespace == "nbflow" else f"{self.namespace}."

    def format(self) -> str:
        return f"{self.namespace}:format"

    def stream(self, run: str) -> str:
        return f"{self.namespace}:flow:{run}"

    def log(self, run: str) -> str:
        return f"{self.namespace}:log:{run}"

    def run(self, run: str) -> str:
        return f"{self.namespace}:run:{run}"

    def emits(self, run: str, topic: str) -> str:
        return f"{self.namespace}:emits:{run}:{topic}"

    def state(self, run: str) -> str:
        return f"{self.namespace}:state:{run}"

    def open(self, run: str) -> str:
        """The jobs of a run that have not ended."""
        return f"{self.namespace}:open:{run}"

    def owned(self, run: str) -> str:
        """The digests of the artifacts that a run refers to."""
        return f"{self.namespace}:owned:{run}"

    def flows(self) -> str:
        return f"{self.namespace}:flows"

    def flow_runs(self, flow: str) -> str:
        return f"{self.namespace}:flows:{flow}"

    def runs(self, status: str) -> str:
        return f"{self.namespace}:runs:{status}"

    def plan(self, digest: str) -> str:
        return f"{self.namespace}:plan:{digest}"

    def bundle(self, digest: str) -> str:
        return f"{self.namespace}:bundle:{digest}"

    def artifact(self, digest: str) -> str:
        return f"{self.namespace}:artifact:{digest}"

    def workers(self) -> str:
        return f"{self.namespace}:workers"

    def timers(self) -> str:
        return f"{self.namespace}:timers"

    def wake(self, queue: str) -> str:
        return f"{self.namespace}:wake:{queue}"

    def events_channel(self, run: str) -> str:
        return f"{self.namespace}:events:{run}"

    def life_channel(self) -> str:
        return f"{self.namespace}:events"

    @staticmethod
    def rq_queues() -> str:
        return f"{RQ}:queues"

    @staticmethod
    def rq_workers(queue_name: str = "") -> str:
        """The registered workers, of one queue by RQ's name of it."""
        return f"{RQ}:workers:{queue_name}" if queue_name else f"{RQ}:workers"

    @staticmethod
    def rq_started(queue_name: str) -> str:
        return f"{RQ}:wip:{queue_name}"

    def rq_queue_name(self, queue: str) -> str:
        return f"{self.queue_prefix}{queue}"

    def rq_queue(self, queue: str) -> str:
        return f"{RQ}:queue:{self.queue_prefix}{queue}"

    def rq_job(self, job: str) -> str:
        return f"{RQ}:job:{job}"

    def rq_worker(self, worker: str) -> str:
        return f"{RQ}:worker:{worker}"
