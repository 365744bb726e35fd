"""One run in process, from `flow.start` to its end: what the scripts and the workers do, without either. Whose turn it is
where runs start runs, `family.py` says.

Tasks wait, are started by somebody, and end; between start and end others may start and end, as on several workers. Who
comes next is drawn from the seed. Delays are not waited for: when nothing else can go on, the clock jumps. Events are
written as the scripts write them, and in their order.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from nbflow.engine.reuse import Outcome
from nbflow.model.definition import failed_topic
from nbflow.model.events import ENDS
from nbflow.model.ids import index_for_people
from nbflow.testing.by_hand import Act, ByHand, Places
from nbflow.testing.chance import Chance, Crash
from nbflow.testing.code import Code, Execution, Order
from nbflow.testing.decisions import Task
from nbflow.testing.executions import Executions
from nbflow.testing.holds import Holds
from nbflow.testing.port import Output, received_preview
from nbflow.testing.record import Record
from nbflow.testing.takeover import DecidedRun, Takeover, groups
from nbflow.testing.waits import Alarm, Answers
from nbflow.worker.task import Ending, Job

__all__ = ["MAX_RECOVERIES", "Engine"]

MAX_RECOVERIES = 3
"""As in `parts/giveback.lua`."""

_CAUSE = "a simulated crash"
_SAYS = {"deadline": "the run passed its deadline", "max_tasks": "the run passed its number of tasks"}
_WORKER = "in-process"


class Starts(Protocol):
    """Who has runs begin that a run starts."""

    def start(self, run: str, fields: dict[str, str], parent: Engine, awaiter: Execution | None = None, /) -> None: ...
    def happens(self, alarm: Alarm, /) -> None: ...


class Engine(Executions):
    """One run."""

    def __init__(
        self,
        code: Code,
        order: Order,
        record: Record,
        chance: Chance,
        crash: Crash,
        *,
        family: Starts,
        output: Output,
        takeover: Takeover,
        answers: Answers,
        acts: Mapping[str, Sequence[Act]] | None = None,
    ) -> None:
        super().__init__(code, order, record, output, takeover)
        self._chance, self._crash, self._family = chance, crash, family
        self._began_ms = self._clock.now_ms
        self._held: list[Execution] = []
        # when, a number for the order, None: the deadline
        self._timers: list[tuple[int, int, Execution | Alarm | None]] = []
        self._numbers = itertools.count()
        self._holds = Holds(code, order, record, answers, self)
        self._resolved = self._holds.waits.resolved
        self._awaiting: list[Execution] = []  # those that await a run
        places = Places(self._ready, self._held, self._timers, self._awaiting)
        self._by_hand = ByHand(acts or {}, code, places, self._holds, self)
        self.kept = DecidedRun(self._decisions, code.step_entry, order.text, self._keys)
        self._errors: dict[str, dict[str, Any]] = {}
        self._told_skips = 0
        self.has_ended = self.was_ended = False
        self.status = "running"

    def launch(self, told: dict[str, Any]) -> None:
        """Begin; `told` is the data of `flow.start`."""
        self._record.add("flow.start", data=told)
        deadline_s = self._code.spec.deadline_s
        if deadline_s is not None:
            self.later(round(deadline_s * 1000), None)
        if "parent" not in told:
            for after_ms, topic, text in self._holds.waits.answers.events:
                self.later(after_ms, Alarm("event", topic=topic, data=json.loads(text)))
        self._advance(self._decisions.launch())

    def act(self) -> bool:
        """Do the next that a person does to a task of it. Whether there was something."""
        return self._by_hand.act(self._clock.now_ms)

    def offer(self) -> tuple[Sequence[int], int | None]:
        """Which of those that are ready may start, and when a rate has room for another."""
        self._forget_what_is_over()
        return self._who_may_start()

    @property
    def held(self) -> int:
        """How many are under way."""
        return len(self._held)

    @property
    def timers(self) -> int:
        """How much comes later."""
        return len(self._timers)

    def next_ms(self, rate_due_ms: int | None) -> int | None:
        """When the next of it comes."""
        times = [*([self._timers[0][0]] if self._timers else []), *([rate_due_ms] if rate_due_ms is not None else [])]
        return min(times, default=None)

    # -- an execution -----------------------------------------------------------------------------------------------

    def start(self, which: int) -> None:
        execution = self._ready.pop(which)
        self._limits.start(execution, execution.limits, self._clock.now_ms)
        payloads = self._payloads(execution.task)
        data: dict[str, Any] = {"worker": _WORKER, **received_preview(payloads)}
        if execution.recovered:
            data["recovered"] = execution.recovered
        self.tell("step.started", execution, data)
        if self._crash.happens(execution.task, execution.recovered, "before"):
            self._lose(execution)
            return
        execution.ending = self._execute(execution, tuple(payload for _, payload in payloads))
        if self._crash.happens(execution.task, execution.recovered, "after"):
            self._lose(execution)
        else:
            self._held.append(execution)

    def _lose(self, execution: Execution) -> None:
        """The worker is gone: the task goes back to the front, or fails for good."""
        execution.ending = None
        self._limits.end(execution, execution.limits)
        if execution.recovered < MAX_RECOVERIES:
            execution.recovered += 1
            told = {"recovered": execution.recovered, "cause": _CAUSE}
            self.tell("step.queued", execution, {**self._queue(execution), **told})
            bisect.insort_left(self._ready, execution, key=self._rank)
            return
        self.fail(execution, f"the worker died {execution.recovered + 1} times while it ran (last: {_CAUSE})", "lost")

    def fail(self, execution: Execution, said: str, reason: str) -> None:
        """It fails for good, and no worker says so."""
        ending = Ending("failed", json.dumps({"error": said, "traceback": "", "reason": reason}))
        if self._code.routes[execution.task.step].failed:
            index = index_for_people(execution.task.index)
            told = {"error": said, "traceback": "", "attempt": execution.attempt, "index": index}
            payload = {**told, "key": self._keys.get(str(execution.task)), "input": None}
            topic = failed_topic(execution.task.step)
            ending.emit(topic, "silent", [(execution.task.index or "0", self._code.codec.encode(payload))])
        execution.ending = ending
        self.finish(execution, json.loads(ending.data))

    # -- the end of an execution ------------------------------------------------------------------------------------

    def settle(self, which: int) -> None:
        execution = self._held.pop(which)
        self._limits.end(execution, execution.limits)
        ending = execution.ending
        assert ending is not None
        data = json.loads(ending.data)
        if "duration" in data:
            data["duration"] = 0
        if ending.outcome == "retry":
            self._try_later(execution, data)
        elif ending.outcome == "awaiting":
            self._await(execution, data)
        elif ending.outcome == "failed" or not self._holds.after(execution, data):
            self.finish(execution, data)

    def _await(self, execution: Execution, data: dict[str, Any]) -> None:
        """It waits for the run that its first group starts; all else that it did counts later."""
        assert execution.ending is not None
        first, *rest = groups(execution.ending.emits)
        self.tell("await.registered", execution, data)
        self._awaiting.append(execution)
        execution.joins, execution.emitted = f"{first[0]} {first[2]}".rstrip(), rest
        self._started(execution, first[0], first[3], awaiter=execution)

    def join(self, execution: Execution, run: str, status: str) -> None:
        """The run that it awaits has ended: it takes the result, and needs no place of its limits for that."""
        if execution not in self._awaiting:  # somebody was faster, by hand
            return
        self._awaiting.remove(execution)
        self.tell("await.resolved", execution, {"position": "child", "data": status, "by": {"run": run}})
        self.queue_task(execution, ["child"])
        execution.limits = ()

    def _started(
        self, execution: Execution, run: str, fields: dict[str, str], awaiter: Execution | None = None
    ) -> None:
        awaited = {"awaited": True} if awaiter else {}
        self.tell("child.started", execution, {"run": run, "flow": fields["flow"], **awaited})
        self._family.start(run, fields, self, awaiter)

    def finish(self, execution: Execution, data: dict[str, Any]) -> None:
        """What the attempt came to counts from now on."""
        ending, task, failed = execution.ending, execution.task, None
        assert ending is not None
        outcome = "completed" if ending.outcome == "joined" else ending.outcome
        self.tell(f"step.{outcome}", execution, data)
        if outcome == "completed":
            self._takeover.keep(task, self._code.step_entry, self.kept, data, ending.emits)
        before = execution.emitted if outcome == "completed" else []
        for topic, mode, text, pairs in (*before, *groups(ending.emits)):
            self._emit(execution, topic, mode, text, pairs)
        if outcome == "completed":
            ready = self._decisions.complete(task)
        else:
            self._errors.setdefault(task.step, {"task": str(task), "error": data["error"]})
            failed = None if task.step in self._decisions.failures else task.step
            ready = self._decisions.fail(task)
        self._advance(ready, failed=failed)

    def _emit(self, execution: Execution, topic: str, mode: str, text: str, pairs: dict[str, str]) -> None:
        if mode == "start":
            self._started(execution, topic, pairs)
            return
        if mode == "key":  # names for the elements of the step that stands for the topic
            self._keys |= {f"{topic}[{index}]": name for index, name in pairs.items()}
            return
        indexes = self._decisions.emit(topic, pairs)
        if mode == "one":
            ((index, payload),) = indexes.items()
            at = {"index": index} if index else {}
            self.tell("emit", execution, {"name": topic, "payload": json.loads(payload), **at})
        elif mode == "many":
            self.tell("emit", execution, {"name": topic, "count": len(pairs), "payload": json.loads(text)})

    def _try_later(self, execution: Execution, data: dict[str, Any]) -> None:
        policy = self._code.graph.specs[execution.task.step].retry
        if policy is not None and policy.jitter and data["nextAttempt"] > execution.attempt:  # drawn from our seed
            data["delay"] = round(policy.delay_s(execution.attempt, self._chance.draw.random) * 1000)
        self.tell("step.retry", execution, data)
        self.later(data["delay"], Execution(execution.task, data["nextAttempt"]))

    # -- what follows -----------------------------------------------------------------------------------------------

    def _advance(self, ready: list[Task], failed: str | None = None) -> None:
        """What became ready, and all that goes with it. `failed` is a step of which the first task failed for good."""
        if failed and self._code.spec.on_failure == "cancel" and not self._code.routes[failed].failed:
            self._end_now("step", {"failedStep": failed, **self._errors[failed]})
            return
        self._queue_ready(ready)
        while not self.has_ended and (more := self._following()) is not None:
            self._queue_ready(more)
        if not self.has_ended and not self._decisions.outstanding:
            self._end()

    def _following(self) -> list[Task] | None:
        """Who became ready by what goes with the end of a task: by those who are told of a wait, by a task taken over."""
        if self._holds.asked:
            return self._announce()
        following = self._takeover.next()
        return self._end_as_before(*following) if following else None

    def _queue_ready(self, ready: list[Task]) -> None:
        if self._decisions.mapped_tasks > self._code.spec.max_tasks:
            self._end_now("max_tasks", {"error": _SAYS["max_tasks"]})
            return
        for task in ready:
            if not self._takeover.takes(task, self._code.step_entry, self.kept):
                self._holds.before(Execution(task), self._decisions.because(task))
        self._tell_skips()

    def _end_as_before(self, task: Task, outcome: Outcome) -> list[Task]:
        """A settle without an execution. Returns the tasks that became ready."""
        execution, data = Execution(task), json.loads(outcome.data)
        key = self._keys.get(str(task))
        self.tell("step.completed", execution, data if key is None else data | {"key": key})
        for topic, mode, text, pairs in groups(outcome.emits):
            self._emit(execution, topic, mode, text, pairs)
        return self._decisions.complete(task)

    def advance(self) -> None:
        self._advance([])

    def _announce(self) -> list[Task]:
        """Those are told who want to know of a wait. Who became ready by that."""
        now, self._holds.asked = self._holds.asked, []
        for execution, topic, text in now:
            ((index, _),) = self._decisions.emit(topic, {"": text}).items()
            at = {"index": index} if self._decisions.topics[topic].subscribers else {}
            self.tell("emit", execution, {"name": topic, "payload": json.loads(text), **at})
        return self._decisions.follow()

    def because(self, execution: Execution) -> list[str]:
        return ["retry"] if execution.attempt > 1 else self._decisions.because(execution.task)

    def queue_task(self, execution: Execution, because: list[str]) -> None:
        key = self._keys.get(str(execution.task))
        named = {} if key is None else {"key": key}
        execution.limits = self._limits_of(execution.task)
        self.tell("step.queued", execution, {**self._queue(execution), "because": because, **named})
        bisect.insort_right(self._ready, execution, key=self._rank)

    def _rank(self, execution: Execution) -> int:
        return -self._code.graph.specs[execution.task.step].priority

    def _tell_skips(self) -> None:
        new = list(self._decisions.skipped.items())[self._told_skips :]
        self._told_skips += len(new)
        for step, reason in sorted(new, key=lambda skip: self._code.graph.place[skip[0]]):
            self._record.add("step.skipped", step, 0, {"reason": reason})

    def later(self, delay_ms: int, what: Execution | Alarm | None) -> None:
        heapq.heappush(self._timers, (self._clock.now_ms + delay_ms, next(self._numbers), what))

    def _forget_what_is_over(self) -> None:
        """Alarms of waits that somebody else ended."""
        while self._timers and isinstance(alarm := self._timers[0][2], Alarm) and not self._holds.waits.is_open(alarm):
            heapq.heappop(self._timers)

    def jump(self, rate_due_ms: int) -> None:
        if rate_due_ms and (not self._timers or rate_due_ms <= self._timers[0][0]):
            self._clock.jump(rate_due_ms)
            return
        due_ms, _, what = heapq.heappop(self._timers)
        self._clock.jump(due_ms)
        if what is None:
            self._end_now("deadline", {"error": _SAYS["deadline"]})
        elif isinstance(what, Alarm) and what.wait is None:
            self._family.happens(what)
        elif isinstance(what, Alarm):
            self._holds.ring(what)
        else:
            self.try_now(what)

    # -- what a person does, see by_hand.py -------------------------------------------------------------------------

    def try_now(self, execution: Execution) -> None:
        """The delay of an attempt is over."""
        self._holds.before(execution, ["retry"])
        self._advance([])  # who is told that it waits again

    def release(self, execution: Execution) -> None:
        self._limits.end(execution, execution.limits)

    def job_of(self, execution: Execution) -> Job:
        return self._code.job(self._order, execution, self._keys.get(str(execution.task)), ())

    def cancel(self, execution: Execution) -> None:
        self._advance(self._decisions.cancel(execution.task))

    def ring(self, alarm: Alarm) -> None:
        """An event from outside."""
        self.activate()
        self._holds.ring(alarm)

    def refuse_to_wait(self) -> None:
        """Nothing else can go on, here or elsewhere. Raises if somebody waits here for what will not come."""
        if self._holds.waits.waiting:
            raise self._holds.refuse(self._code.spec.name)

    def _end(self) -> None:
        bad = self._decisions.failed_step
        if bad is None:
            self._close("flow.completed", {"leaves": self._decisions.leaves})
        else:
            self._close("flow.failed", {"failedStep": bad, "reason": "step", **self._errors[bad]})

    def _end_now(self, reason: str, told: dict[str, Any]) -> None:
        """Like a cancel, as a failure."""
        self._stop("flow.failed", {"reason": reason, **told})

    def end(self, reason: str, by: dict[str, str]) -> None:
        """End it now."""
        self._stop("flow.cancel", {"reason": reason, "by": by, "previousStatus": "running"})

    def _stop(self, kind: str, told: dict[str, Any]) -> None:
        self.was_ended = True
        self._close(kind, told)
        waiting = [
            what for *_, what in sorted(self._timers, key=lambda timer: timer[:2]) if isinstance(what, Execution)
        ]
        waiting += [wait.execution for wait in self._holds.waits.waiting.values()]
        for execution in (*self._held, *self._ready, *waiting, *self._awaiting):
            self.tell("step.canceled", execution, {"reason": "run"})

    def _close(self, kind: str, told: dict[str, Any]) -> None:
        self._state.end()
        self._record.add(kind, data={"duration": self._clock.now_ms - self._began_ms, **told})
        self.has_ended, self.status = True, ENDS[kind]

    def _queue(self, execution: Execution) -> dict[str, str]:
        return {"queue": self._code.graph.specs[execution.task.step].queue}

    def tell(self, kind: str, execution: Execution, data: dict[str, Any]) -> None:
        self._record.add(kind, str(execution.task), execution.attempt, data)
