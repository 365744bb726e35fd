"""How every key in Redis is spelled: here in Python, and in `lua/parts/*.lua` for what only scripts touch.

`P` is the namespace (default `nbflow`). Keys of RQ are RQ's own; a queue of the default namespace has its plain name
there, one of another namespace `<namespace>:<queue>` (no queue's
name holds a colon), so that two namespaces on one server never share a queue.
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
        if not isinstance(self.namespace, str) or not _NAMESPACE.fullmatch(self.namespace):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CommandRefused(
                f"{self.namespace!r} cannot be a namespace.",
                hint="Use at most 40 letters, digits, '_' and '-', beginning with a letter.",
            )

    @property
    def queue_prefix(self) -> str:
        return "" if self.namespace == "nbflow" else f"{self.namespace}:"

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

    def names(self, run: str) -> str:
        """What `key=` called the elements, by task."""
        return f"{self.namespace}:keys:{run}"

    def state(self, run: str) -> str:
        return f"{self.namespace}:state:{run}"

    def children(self, run: str) -> str:
        """The runs that it started, in their order."""
        return f"{self.namespace}:children:{run}"

    def open(self, run: str) -> str:
        """The jobs of a run that have not ended."""
        return f"{self.namespace}:open:{run}"

    def owned(self, run: str) -> str:
        """The digests of the artifacts that a run refers to."""
        return f"{self.namespace}:owned:{run}"

    def gone(self, run: str) -> str:
        """What the hash of a deleted run is called until everything of the run is removed."""
        return f"{self.namespace}:gone:{run}"

    def owners(self) -> str:
        """How many own a plan, a bundle or an artifact: runs, versions, ends that are kept."""
        return f"{self.namespace}:owners"

    def retire(self) -> str:
        """Ended runs by the time at which they go."""
        return f"{self.namespace}:retire"

    def cached(self) -> str:
        """What is kept of ends of tasks for other runs, by the time at which it goes."""
        return f"{self.namespace}:cached"

    def kept_end(self, digest: str) -> str:
        return f"{self.namespace}:cache:{digest}"

    def place(self) -> str:
        """The name of this namespace's folder in an artifact store."""
        return f"{self.namespace}:place"

    def dust(self) -> str:
        """Artifacts that no run owns any more and that the artifact store may hold still."""
        return f"{self.namespace}:dust"

    def flows(self) -> str:
        return f"{self.namespace}:flows"

    def flow_runs(self, flow: str) -> str:
        return f"{self.namespace}:flows:{flow}"

    def runs(self, status: str) -> str:
        return f"{self.namespace}:runs:{status}"

    def versions(self, flow: str) -> str:
        """The published versions of a flow: signed records by number, and which is the newest."""
        return f"{self.namespace}:versions:{flow}"

    def published(self) -> str:
        """The names of the flows that are published."""
        return f"{self.namespace}:published"

    def schedules(self) -> str:
        """The schedules, as `flow:name`, by when somebody has to look after them."""
        return f"{self.namespace}:schedules"

    def schedule(self, flow: str, name: str) -> str:
        return f"{self.namespace}:schedule:{flow}:{name}"

    def triggers(self) -> str:
        """The names of the triggers."""
        return f"{self.namespace}:triggers"

    def trigger(self, name: str) -> str:
        return f"{self.namespace}:trigger:{name}"

    def listens(self, source: str) -> str:
        """Which triggers listen to a topic, or to themselves (`@name`), each with a flow that it starts."""
        return f"{self.namespace}:listens:{source}"

    def firings(self) -> str:
        """Events that have flows to start still, by when somebody has to look after them."""
        return f"{self.namespace}:firings"

    def firing(self, event: str) -> str:
        return f"{self.namespace}:firing:{event}"

    def uses(self, flow: str) -> str:
        """The schedules and triggers that start a flow."""
        return f"{self.namespace}:uses:{flow}"

    def plan(self, digest: str) -> str:
        return f"{self.namespace}:plan:{digest}"

    def bundle(self, digest: str) -> str:
        return f"{self.namespace}:bundle:{digest}"

    def artifact(self, digest: str) -> str:
        return f"{self.namespace}:artifact:{digest}"

    def queues(self) -> str:
        """The names of the queues that ever held a job of ours."""
        return f"{self.namespace}:queues"

    def workers(self) -> str:
        return f"{self.namespace}:workers"

    def timers(self) -> str:
        return f"{self.namespace}:timers"

    def wake(self, queue: str) -> str:
        return f"{self.namespace}:wake:{queue}"

    def priorities(self, queue: str) -> str:
        """The waiting jobs of a queue that have a priority, but the next of them, which stands in RQ's list."""
        return f"{self.namespace}:prio:{queue}"

    def paused(self) -> str:
        """The names of the queues in which nothing starts."""
        return f"{self.namespace}:paused"

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
