"""The key check: every key of a namespace belongs to a known family and to an owner that is there.

Owners: a run (its hash), what is kept for other runs, a job (RQ's hash of it, of a run that has not ended), a worker (registered), a queue that
somebody may listen to. A key of no family, or whose owner is gone, leaks.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any

from nbflow.store.connect import Store

__all__ = ["leaks"]

ENDED = ("completed", "failed", "canceled")
OF_A_RUN = (
    "flow|log|run|emits|order|keys|state|fades|owned|open|meet|left|turns|resolved|reuse|again|making|misses|children"
)
ONLY_WHILE_IT_RUNS = ("open", "fades", "meet", "left", "turns", "reuse", "again", "making", "misses")
STAGED = ("owned", "reuse", "state")


def leaks(store: Store) -> list[str]:
    """What leaks, one sentence a key."""
    check = _Check(store)
    keys = sorted(store.text.scan_iter(count=1000))
    return [f"{key}: {why}" for key in keys if (why := check.complaint(key))]


class _Check:
    def __init__(self, store: Store) -> None:
        self.text: Any = store.text
        self.space = re.escape(store.keys.namespace)
        self.keys = store.keys
        self.families: list[tuple[str, Callable[..., str]]] = [
            (rf"{self.space}:({OF_A_RUN}):([^:]+)(:.+)?", self._of_a_run),
            (rf"{self.space}:key:([^:]+):(.+)", self._key_of_a_run),
            (rf"{self.space}:(plan|bundle):(\w+)", self._code),
            (rf"{self.space}:owners", self._owners),
            (rf"{self.space}:gone:(.+)", self._gone),
            (rf"{self.space}:(dying|dust|retire)", self._going),
            (
                rf"{self.space}:(flows|queues|format|place|workers|runs:\w+|flows:[^:]+|wake:.+|prio|prio:.+|paused|seats|lacking|declined(?::.+)?)",
                self._index,
            ),
            (rf"{self.space}:versions:([^:]+)", self._versions),
            (rf"{self.space}:published", self._published),
            (rf"{self.space}:waits:(.+)", self._waits),
            (rf"{self.space}:held:(.+)", self._record_of_a_job),
            (rf"{self.space}:(topics|topic:.+|said:.+|given:.+)", self._events),
            (rf"{self.space}:schedules", self._schedules),
            (rf"{self.space}:schedule:([^:]+):([^:]+)", self._schedule),
            (rf"{self.space}:uses:([^:]+)", self._uses),
            (rf"{self.space}:triggers", self._triggers),
            (rf"{self.space}:trigger:([^:]+)", self._trigger),
            (rf"{self.space}:listens:(.+)", self._listens),
            (rf"{self.space}:firings", self._firings),
            (rf"{self.space}:firing:([^:]+)", self._firing),
            (rf"{self.space}:slices", self._slices),
            (rf"{self.space}:limit:([cr]):.+", self._limit),
            (rf"{self.space}:(lines|aside):([cr]:.+)", self._line),
            (rf"{self.space}:timers", self._timers),
            (rf"{self.space}:stalls", self._stalls),
            (rf"{self.space}:artifact:(.+)", self._artifact),
            (rf"{self.space}:(?:cached|cache:(.+))", self._kept_end),
            (r"rq:job:(.+)", self._job),
            (r"rq:(?:executions:(.+)|execution:(.+):\d+)", self._record_of_a_job),
            (r"rq:worker:([^:]+)(:executions)?", self._worker),
            (r"rq:(queue:.+|queues|workers|workers:.+|wip:.+|clean_registries:.+|suspended)", self._queue),
        ]

    def complaint(self, key: str) -> str:
        for pattern, judge in self.families:
            found = re.fullmatch(pattern, key)
            if found:
                return judge(key, *found.groups())
        return "it belongs to no known family"

    def _status(self, run: str) -> str | None:
        return self.text.hget(self.keys.run(run), "status")

    def _of_a_run(self, key: str, kind: str, run: str, _: str | None) -> str:
        status = self._status(run)
        if status is None and (self._is_going(run) or (kind in STAGED and self._is_starting(run))):
            return ""
        if status is None:
            return f"there is no run {run}"
        if kind in ONLY_WHILE_IT_RUNS and status in ENDED and not self._is_being_removed(run):
            return f"the run {run} is {status}, and nothing of it is unfinished"
        return ""

    def _is_being_removed(self, run: str) -> bool:
        return any(entry.startswith(f"{run} ") for entry in self.text.lrange(f"{self.keys.namespace}:slices", 0, -1))

    def _key_of_a_run(self, key: str, flow: str, name: str) -> str:
        run = self.text.get(key)
        return "" if self._status(run) is not None else f"there is no run {run}"

    def _code(self, key: str, kind: str, digest: str) -> str:
        owners = self.text.hget(f"{self.keys.namespace}:owners", f"{kind}:{digest}")
        is_waiting = self.text.ttl(key) >= 0  # for the launch that uploaded it
        return "" if int(owners or 0) > 0 or is_waiting else "no run owns it"

    def _owners(self, key: str) -> str:
        """Law: each count is the number of those who own."""
        counted = {name: int(count) for name, count in self.text.hgetall(key).items()}
        wrong = {name for name in counted.keys() | self.owning.keys() if counted.get(name, 0) != self.owning[name]}
        return f"it counts wrong: {[(name, counted.get(name), self.owning[name]) for name in wrong]}" if wrong else ""

    @cached_property
    def owning(self) -> Counter[str]:
        space, found = self.keys.namespace, Counter[str]()
        for other in (*self.text.scan_iter(f"{space}:run:*"), *self.text.scan_iter(f"{space}:gone:*")):
            plan, bundle = self.text.hmget(other, "plan", "bundle")
            found.update([f"plan:{plan}", f"bundle:{bundle}"] if plan else [])
        for flow in self.text.smembers(self.keys.published()):
            for number, record in self.text.hgetall(self.keys.versions(flow)).items():
                told = json.loads(record[64:]) if number != "newest" else None
                found.update([f"plan:{told['plan']}", f"bundle:{told['bundle']}"] if told else [])
        for other in self.text.scan_iter(f"{space}:owned:*"):
            found.update(one if ":" in one else f"artifact:{one}" for one in self.text.smembers(other))
        for fields in self._declared():
            owns = [text for name, text in fields.items() if name.partition(" ")[0] == "owns"]
            found.update(f"artifact:{one}" for text in owns for one in text.split())
        for digest in self.text.zrange(self.keys.cached(), 0, -1):
            refs = self.text.hget(self.keys.kept_end(digest), "refs") or ""
            found.update(f"artifact:{one}" for one in refs.split())
        return found

    def _declared(self) -> list[dict[str, str]]:
        """Schedules, and triggers with the flows on them."""
        schedules = [self.keys.schedule(*one.split(":")) for one in self.text.zrange(self.keys.schedules(), 0, -1)]
        triggers = [self.keys.trigger(name) for name in self.text.smembers(self.keys.triggers())]
        return [self.text.hgetall(key) for key in (*schedules, *triggers)]

    def _kept_end(self, key: str, digest: str | None) -> str:
        if digest is not None:
            return "" if self.text.zscore(self.keys.cached(), digest) is not None else "nothing takes it away"
        lost = [one for one in self.text.zrange(key, 0, -1) if not self.text.exists(self.keys.kept_end(one))]
        return f"it names {lost}" if lost else ""

    def _versions(self, key: str, flow: str) -> str:
        return "" if self.text.sismember(self.keys.published(), flow) else "the flow is not published"

    def _published(self, key: str) -> str:
        lost = [flow for flow in self.text.smembers(key) if not self.text.exists(self.keys.versions(flow))]
        return f"it names {lost}" if lost else ""

    def _schedules(self, key: str) -> str:
        lost = [
            one for one in self.text.zrange(key, 0, -1) if not self.text.exists(self.keys.schedule(*one.split(":")))
        ]
        return f"it names {lost}" if lost else ""

    def _schedule(self, key: str, flow: str, name: str) -> str:
        return "" if self.text.zscore(self.keys.schedules(), f"{flow}:{name}") is not None else "nobody looks after it"

    def _uses(self, key: str, flow: str) -> str:
        if not self.text.exists(self.keys.versions(flow)):
            return "the flow is not published"
        used = [one.split(" ") for one in self.text.smembers(key)]
        spelled = {"schedule": lambda name: self.keys.schedule(flow, name), "trigger": self.keys.trigger}
        lost = [name for kind, name in used if not self.text.exists(spelled[kind](name))]
        return f"it names {lost}" if lost else ""

    def _triggers(self, key: str) -> str:
        lost = [name for name in self.text.smembers(key) if not self.text.exists(self.keys.trigger(name))]
        return f"it names {lost}" if lost else ""

    def _trigger(self, key: str, name: str) -> str:
        """Law: what listens to its source for it are the flows that it names, and it is used by these."""
        fields = self.text.hgetall(key)
        flows = {field.partition(" ")[2] for field in fields if field.startswith("on ")}
        listening = {
            pair.split(" ")[1]
            for pair in self.text.smembers(self.keys.listens(fields["source"]))
            if pair.startswith(f"{name} ")
        }
        unused = [flow for flow in flows if not self.text.sismember(self.keys.uses(flow), f"trigger {name}")]
        if not flows or not self.text.sismember(self.keys.triggers(), name):
            return "nobody knows it"
        return f"{flows} are on it, {listening} listen, {unused} do not know" if flows != listening or unused else ""

    def _listens(self, key: str, source: str) -> str:
        names = {pair.split(" ")[0] for pair in self.text.smembers(key)}
        lost = [name for name in names if self.text.hget(self.keys.trigger(name), "source") != source]
        return f"it names {lost}" if lost else ""

    def _firings(self, key: str) -> str:
        lost = [event for event in self.text.zrange(key, 0, -1) if not self.text.exists(self.keys.firing(event))]
        return f"it names {lost}" if lost else ""

    def _firing(self, key: str, event: str) -> str:
        if self.text.hlen(key) <= 5:
            return "nothing is left to start for it"
        return "" if self.text.zscore(self.keys.firings(), event) is not None else "nobody looks after it"

    def _gone(self, key: str, run: str) -> str:
        return "" if self.text.sismember(f"{self.keys.namespace}:dying", run) else "nobody removes what is left of it"

    def _going(self, key: str, name: str) -> str:
        if name == "dying":
            lost = [run for run in self.text.smembers(key) if not self._is_going(run)]
            return f"it names {lost}" if lost else ""
        runs = self.text.zrange(key, 0, -1) if name == "retire" else []
        staged = {run: [f"{self.keys.namespace}:{kind}:{run}" for kind in STAGED] for run in runs}
        lost = [run for run in runs if self._status(run) is None and not self.text.exists(*staged[run])]
        return f"it names {lost}" if lost else ""

    def _is_going(self, run: str) -> bool:
        return bool(self.text.exists(self.keys.gone(run)))

    def _is_starting(self, run: str) -> bool:
        return self.text.zscore(self.keys.retire(), run) is not None

    def _index(self, key: str, name: str) -> str:
        kind, _, which = name.partition(":")
        if kind in ("runs", "flows") and which:
            gone = [run for run in self.text.zrange(key, 0, -1) if self._status(run) is None]
            wrong = [run for run in self.text.zrange(key, 0, -1) if kind == "runs" and self._status(run) != which]
            return f"it names {gone or wrong}" if gone or wrong else ""
        return ""

    def _slices(self, key: str) -> str:
        runs = {entry.split(" ")[0] for entry in self.text.lrange(key, 0, -1)} - {"*event", "*child"}
        gone = sorted(run for run in runs if self._status(run) is None)
        return f"it names {gone}" if gone else ""

    def _limit(self, key: str, kind: str) -> str:
        """What counts is a lease, or a start of not long ago."""
        if kind == "r":
            return "" if self.text.ttl(key) >= 0 else "nothing takes it away"
        gone = [one for one in self.text.smembers(key) if not self._is_held(*one.rsplit(":", 1))]
        return f"it counts {gone}" if gone else ""

    def _is_held(self, job: str, lease: str) -> bool:
        worker, held = self.text.hmget(self.keys.rq_job(job), "worker_name", "lease")
        return held == lease and bool(
            self.text.sismember(f"{self.keys.rq_worker(worker)}:executions", f"{job}:{lease}")
        )

    def _line(self, key: str, kind: str, limit: str) -> str:
        if kind == "lines":
            lost = [
                queue
                for queue in self.text.hkeys(key)
                if not self.text.exists(f"{self.keys.namespace}:aside:{limit}:{queue}")
            ]
            return f"it names {lost}" if lost else ""
        gone = [job for job in self.text.zrange(key, 0, -1) if not self.text.exists(self.keys.rq_job(job))]
        return f"it names {gone}" if gone else ""

    def _timers(self, key: str) -> str:
        """A start or a deadline is of a run that has not ended, a retry and a wait of a job."""
        wrong: list[str] = []
        for entry in self.text.zrange(key, 0, -1):
            kind, _, of = entry.partition(" ")
            is_job = kind in ("retry", "await") and self.text.exists(self.keys.rq_job(of))
            known = is_job or kind == "rate" or self._status(of) == "running"
            wrong += [] if known else [entry]
        return f"it names {wrong}" if wrong else ""

    def _stalls(self, key: str) -> str:
        gone = [run for run in self.text.zrange(key, 0, -1) if self._status(run) != "running"]
        return f"it names {gone}" if gone else ""

    def _waits(self, key: str, topic: str) -> str:
        gone = [job for job in self.text.zrange(key, 0, -1) if not self.text.exists(self.keys.rq_job(job))]
        return f"it names {gone}" if gone else ""

    def _events(self, key: str, name: str) -> str:
        kind, _, which = name.partition(":")
        if kind == "given":
            entries = self.text.lrange(f"{self.keys.namespace}:slices", 0, -1)
            return "" if any(entry.endswith(f"/{which}") for entry in entries) else "nobody gives it to anybody"
        return "" if kind == "topics" or self.text.ttl(key) >= 0 else "it stays for ever"

    def _artifact(self, key: str, digest: str) -> str:
        return "" if self.owning[f"artifact:{digest}"] else "no run owns it"

    def _job(self, key: str, job: str) -> str:
        run = self.text.hget(key, "run")
        status = self._status(run or "")
        if status is None:
            return f"there is no run {run}"
        if status in ENDED and not self._is_being_removed(run):
            return f"the run {run} is {status}"
        return (
            "" if self.text.sismember(f"{self.keys.namespace}:open:{run}", job) else f"the run {run} does not know it"
        )

    def _record_of_a_job(self, key: str, job: str | None, job_too: str | None = None) -> str:
        return "" if self.text.exists(self.keys.rq_job(job or job_too or "")) else "its job is gone"

    def _worker(self, key: str, worker: str, executions: str | None) -> str:
        return (
            ""
            if self.text.sismember("rq:workers", self.keys.rq_worker(worker))
            else f"no worker {worker} is registered"
        )

    def _queue(self, key: str, name: str) -> str:
        kind = name.partition(":")[0]
        if kind == "wip":
            gone = [
                one
                for one in self.text.zrange(key, 0, -1)
                if not self.text.exists(self.keys.rq_job(one.rpartition(":")[0]))
            ]
            return f"it names {gone}" if gone else ""
        return ""
