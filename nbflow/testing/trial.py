"""Trials: a flow run in this process, with crashes and orders that a seed decides. For tests of flows.

Code, payloads and decisions are those of a launch on real workers: the same bundle, the same encoding, the same events.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import inspect
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Literal, Never

from nbflow.define import registry
from nbflow.define.asked import asked_emits, shown
from nbflow.define.checked import checked_choice, checked_count
from nbflow.define.flow import FlowDefinition
from nbflow.define.payloads import input_of, mapped
from nbflow.engine.again import How, Origin, new_code, take
from nbflow.engine.awaits import event_text
from nbflow.engine.launch import Order as Launched
from nbflow.engine.packing import started_by
from nbflow.errors import CommandRefused, DefinitionError, nearest
from nbflow.local.project import find_project
from nbflow.model.artifacts import MemoryArtifacts
from nbflow.model.codec import Codec
from nbflow.model.history import history
from nbflow.model.ids import new_run_id, split_task
from nbflow.model.policy import Duration, seconds
from nbflow.model.secret import checked_values, given
from nbflow.model.triggered import Triggered, triggered_of
from nbflow.model.triggers import Firing, Trigger
from nbflow.settings import settings
from nbflow.testing.by_hand import STATES, Act
from nbflow.testing.cache import Cache, KeptEnds
from nbflow.testing.chance import Chance, Crash
from nbflow.testing.clock import BEGINNING, Clock
from nbflow.testing.code import Code, Order
from nbflow.testing.decisions import Task
from nbflow.testing.engine import MAX_RECOVERIES
from nbflow.testing.family import Family
from nbflow.testing.foresight import foresee
from nbflow.testing.record import Record, RecordedRun
from nbflow.testing.takeover import DecidedRun, Takeover
from nbflow.testing.waits import Answers
from nbflow.watch.frames import PlanRow
from nbflow.watch.run import Run

__all__ = ["Trial"]

When = Literal["before", "after"]
State = Literal["queued", "running", "retrying", "awaiting"]


class Trial:
    """A way to run a flow in this process, again and again.

        run = etl.trial(seed=7).crash("parse[3]").run(folder="data")

    `seed` decides the order of tasks that may run at the same time, on so many `workers`; a `random.Random` in its place
    is drawn from (Hypothesis has some that shrink). Without a seed tasks run one after the other as they became ready.
    `crashes` is the part of executions that lose their worker, never so often that a task fails of it. `start` is the
    time at which the clock begins; it jumps over delays, and stands still while steps run. `secrets` are values for
    `Secret(name)`, by name; others are found as in a kernel.
    """

    def __init__(
        self,
        flow: FlowDefinition,
        *,
        seed: int | random.Random | None = None,
        workers: int = 4,
        crashes: float = 0.0,
        start: datetime | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(crashes, int | float) or not 0 <= crashes <= 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"crashes={shown(crashes)} is no share.", hint="Give a number from 0 to 1.")
        if start is not None and not isinstance(start, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"start={shown(start)} is no moment.", hint="Give a datetime with a time zone.")
        if seed is not None and not isinstance(seed, int | random.Random):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"seed={shown(seed)} is none.", hint="Give a whole number, or a random.Random.")
        checked_count("workers", workers)
        self._flow, self._seed, self._workers, self._crashes = flow, seed, workers, crashes
        self._start = start or BEGINNING
        self._secrets = checked_values(secrets)
        self._plan: dict[tuple[str, str], int] = {}
        self._replaced: dict[str, Callable[..., Any]] = {}
        self._answers = Answers()
        self._acts: dict[str, list[Act]] = {}
        self._artifacts = MemoryArtifacts()
        self._ends = KeptEnds()
        self._made: Code | None = None
        self._others: dict[str, Code] = {}

    def crash(self, task: str, *, times: int = 1, when: When = "after") -> Trial:
        """Have the worker die while it executes a task, `"parse[3]"`, or every task of a step, `"parse"`: before the body
        ran, or after it, when all that it did is done and none of it counts. Four times in a row are final."""
        self._known(task)
        checked_count("times", times)
        checked_choice("when", when, ("before", "after"))
        self._plan[task, when] = times
        return self

    def replace(self, step: str, function: Callable[..., Any]) -> Trial:
        """Give a step another body. It travels like a step: let it return something, what it notes elsewhere is lost."""
        self._known(step)
        if not callable(function):
            message = f"The body of {step!r} cannot be {shown(function)}."
            raise DefinitionError(message, hint="Give a function; wrap anything else in a def.")
        self._replaced[step] = function
        self._made = None
        return self

    def resolve(self, task: str, data: Any = None, *, after: Duration = 0) -> Trial:
        """Answer a task that waits, `"pay"`, `"pay[3]"` or `"pay[b.csv]"`, so long after it asked. Said again for the same
        name, it is the answer to the next question, after a timeout. `data` may be a function of what is asked.
        Tasks of flows that this one starts are answered likewise."""
        self._known(task, also_of_others=True)
        after_ms = round(seconds(after, "How long an answer takes") * 1000)
        self._answers.to.setdefault(task, []).append((data, after_ms))
        return self

    def emit(self, topic: str, payload: Any = None, *, after: Duration = 0) -> Trial:
        """An event from outside of the run, so long after its start."""
        after_ms = round(seconds(after, "The time of an event") * 1000)
        self._answers.events.append((after_ms, topic, event_text(topic, payload)))
        return self

    def cancel(self, task: str, *, when: State = "queued", after: Duration = 0) -> Trial:
        """Cancel a task by hand, `"parse[3]"`, `"parse[b.csv]"`, or every task of a step: once it is `queued`, `running`,
        `retrying` or `awaiting`, so long after that, if it still is."""
        return self._act(task, "cancel", when, after)

    def retry(self, task: str, *, when: State = "running", after: Duration = 0) -> Trial:
        """Have a task tried again by hand, once: give up what runs, cut short what is `retrying`, or do again what is held
        after its attempt."""
        if when == "queued":
            raise CommandRefused(
                f"A queued task, as {task!r} would be, is not tried again.", hint="It is tried anyway."
            )
        return self._act(task, "retry", when, after)

    def complete(
        self,
        task: str,
        value: Any = None,
        *,
        emits: Mapping[str, Any] | None = None,
        when: State = "queued",
        after: Duration = 0,
    ) -> Trial:
        """Give the result of a task by hand, and for a step with several topics what is emitted on which."""
        return self._act(task, "complete", when, after, value, asked_emits(emits))

    def _act(self, task: str, what: str, when: State, after: Duration, *given: Any) -> Trial:
        self._known(task)
        if when not in STATES:
            raise CommandRefused(f"No task is {when!r} when it is acted on.", hint=nearest(when, STATES))
        after_ms = round(seconds(after, "How long an act waits") * 1000)
        self._acts.setdefault(task, []).append(Act(what, when, after_ms, *given))
        return self

    def run(self, *args: Any, **values: Any) -> Run:
        """Run it with this input, to its end. The handle is that of every run. What steps with `cache=` keep is shared by the
        runs of a trial."""
        return self._run(self._seed, _run_id(self._flow.name, self._seed), self._flow.bind_input(args, values))

    def fire(
        self,
        source: Trigger | Triggered,
        payload: Any = None,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
    ) -> Run:
        """Run it as a trigger starts it when this payload comes, with the `input` that `flow.on(...)` was given; or as
        something else started it: `fire(Triggered("schedule", "nightly", scheduled_at=...), {"folder": "data"})`.
        CommandRefused if the payload does not match."""
        if not isinstance(source, Trigger | Triggered):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CommandRefused(f"{shown(source)} starts nothing.", hint="Give a Trigger, or a Triggered.")
        event = Firing(_run_id(self._flow.name, 0), "", event_text("by.hand", payload), at_ms=Clock(self._start).now_ms)
        if isinstance(source, Trigger) and not source.wants(event.tree):
            message = f"The payload does not match trigger {source.name!r}, so it starts nothing."
            raise CommandRefused(message, hint="Give one with the values of its match.")
        told = event.triggered(source) if isinstance(source, Trigger) else source
        taken = self._flow.flow_input()
        how = None if input is None else mapped(self._flow.name, input, taken)
        given = input_of(how, Codec().decode(event.payload.encode()), taken)
        return self._run(self._seed, _run_id(self._flow.name, self._seed), given, told.text)

    def interleavings(self, number: int = 1000, /, *args: Any, **values: Any) -> Run:
        """Run it with the seeds 0, 1, … and give the last. AssertionError names the first seed with which it ends
        otherwise than with 0: with another status, or another result."""
        checked_count("The number of interleavings", number)
        given, run_id = self._flow.bind_input(args, values), _run_id(self._flow.name, 0)
        run = self._run(0, run_id, given, ends=KeptEnds())
        expected = self._outcome(run)
        for seed in range(1, number):
            run = self._run(seed, run_id, given, ends=KeptEnds())
            found = self._outcome(run)
            if found != expected:
                raise AssertionError(
                    f"The run of {self._flow.name!r} depends on the order of its tasks: {_short(expected)} with the seed 0, "
                    f"{_short(found)} with the seed {seed}. Look at trial(seed={seed}).run(…).events."
                )
        return run

    # -- one run ----------------------------------------------------------------------------------------------------

    @property
    def _code(self) -> Code:
        """Made at the first run: later ones keep the flow as it was then."""
        if self._made is None:
            self._made = Code(self._flow, self._replaced, self._artifacts)
            self._bring(self._made)
        return self._made

    def _bring(self, code: Code) -> None:
        """With it come the flows that it may start, as they are now."""
        root = settings().project or find_project().root
        self._others = {
            other.name: code if other.name == code.spec.name else Code(other, {}, self._artifacts)
            for other in started_by(self._flow, root)
        }
        code.bring(self._others.values())

    def _run(
        self,
        seed: int | random.Random | None,
        run_id: str,
        given: dict[str, Any],
        trigger: str = "",
        ends: KeptEnds | None = None,
    ) -> Run:
        code, clock = self._code, Clock(self._start)
        order = code.order(run_id, self._flow.validate_input(given), trigger)
        cache = Cache(run_id, ends or self._ends, lambda: clock.now_ms)
        return self._do(code, order, seed, clock, Takeover(cache=cache))

    def _do(self, code: Code, order: Order, seed: int | random.Random | None, clock: Clock, takeover: Takeover) -> Run:
        chance = Chance(seed, self._workers)
        crash = _Planned(self._plan, self._crashes, chance.draw)
        others = partial(_Planned, {}, self._crashes, chance.draw)
        codes = {**self._others, self._flow.name: code}
        ends = takeover.cache.kept_ends if takeover.cache is not None else KeptEnds()
        family = Family(codes, chance, clock, answers=self._answers, crash=others, ends=ends)
        act = partial(family.run, code, order, takeover, crash, self._acts)
        with given(self._secrets):
            if self._needs_a_thread():
                _in_a_thread(act)
            else:
                act()
        return self._handle(family, takeover.line or order.run, seed, codes, order.run)

    def _handle(
        self, family: Family, line: str, seed: int | random.Random | None, codes: dict[str, Code], run: str
    ) -> Run:
        member = family.members[run]
        record, kept = member.record, member.engine.kept
        again: Callable[..., Run] = partial(self._again, record, kept, line, seed)
        foresees: Callable[..., list[PlanRow]] = partial(self._foresee, record, kept, line)
        if member.parent:
            again = foresees = partial(_refuse_child, record.flow)
        handle = partial(self._handle, family, line, seed, codes)
        return Run(run, RecordedRun(record, codes[record.flow].codec, again, foresees, handle), flow=record.flow)

    def _foresee(
        self, record: Record, kept: DecidedRun, line: str, flow: FlowDefinition, *, changed: bool
    ) -> list[PlanRow]:
        code = Code(flow, self._replaced if flow is self._flow else {}, self._artifacts)
        told = history(record.run_id, list(record.events))
        origin = Origin(record.run_id, flow.name, "resume", None, told, kept, line)
        launched = Launched(flow.name, code.plan, code.bundle, {}, {})
        return foresee(origin, new_code(origin, flow, launched, code.codec), changed=changed)

    def _again(
        self,
        record: Record,
        kept: DecidedRun,
        line: str,
        seed: int | random.Random | None,
        how: How,
        *,
        at: str | None,
        changed: bool,
    ) -> Run:
        """A run that goes on from another one: of the flow as it is now, with the bodies as they are replaced now."""
        told = history(record.run_id, list(record.events), at)
        origin = Origin(record.run_id, self._flow.name, how, at, told, kept, line)
        code = Code(self._flow, self._replaced, self._artifacts)
        self._bring(code)
        keys = {step.name: step.key for step in self._flow.steps()}
        taken = take(origin, code.spec, code.bundle.fingerprints, code.codec, keys, changed=changed)
        run_id = hashlib.sha256(f"{record.run_id}:{how}:{at}".encode()).hexdigest()[:32]
        clock, trigger = record.clock.later(), told.view.start.get("trigger")
        cache = Cache(run_id, self._ends, lambda: clock.now_ms, is_anew=how == "restart")
        takeover = Takeover(taken.outcomes, taken.state, taken.told, taken.line, cache)
        given = self._flow.validate_input(code.codec.decode_value(told.view.input))
        order = code.order(run_id, given, triggered_of(trigger).text if trigger else "")
        return self._do(code, order, seed, clock, takeover)

    def _outcome(self, run: Run) -> tuple[str, str]:
        return run.status, self._code.codec.encode(run.result) if run.status == "completed" else ""

    def _known(self, task: str, *, also_of_others: bool = False) -> None:
        """The task's step is one of the flow, or of one that it starts."""
        flows = [self._flow]
        if also_of_others:
            flows += started_by(self._flow, settings().project or find_project().root)
        names = [declared.name for flow in flows for declared in flow.steps()]
        step = split_task(task)[0] if isinstance(task, str) and "[" in task else task  # pyright: ignore[reportUnnecessaryIsInstance]
        if step not in names:
            raise DefinitionError(f"Flow {self._flow.name!r} has no step {step!r}.", hint=nearest(step, names))

    def _needs_a_thread(self) -> bool:
        """A notebook's thread runs an event loop, in which no other can be run."""
        if not _has_loop():
            return False
        others = [registry.defined(name) for name in self._others if name != self._flow.name]
        bodies = [self._replaced.get(step.name, step.function) for step in self._flow.steps()]
        bodies += [step.function for other in others if other is not None for step in other.steps()]
        return any(map(inspect.iscoroutinefunction, bodies))


class _Planned(Crash):
    """Crashes at named points, and at random."""

    def __init__(self, plan: dict[tuple[str, str], int], share: float, draw: random.Random) -> None:
        self._plan, self._share, self._draw = plan, share, draw
        self._had: Counter[tuple[Task, str]] = Counter()

    def happens(self, task: Task, recovered: int, when: str) -> bool:
        times = max(self._plan.get((str(task), when), 0), self._plan.get((task.step, when), 0))
        if self._had[task, when] < times:
            self._had[task, when] += 1
            return True
        return self._share > 0 and recovered < MAX_RECOVERIES and self._draw.random() < self._share / 2


def _refuse_child(flow: str, *_: object, **__: object) -> Never:
    raise CommandRefused(
        f"A run of {flow!r} that another run started in this process cannot be gone on from.",
        hint="Go on from the run that started it.",
    )


def _run_id(flow: str, seed: int | random.Random | None) -> str:
    """The same seed makes the same run, its id included."""
    if seed is None:
        return new_run_id()
    if isinstance(seed, random.Random):
        return f"{seed.getrandbits(128):032x}"
    return hashlib.sha256(f"{flow}:{seed}".encode()).hexdigest()[:32]


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_a_thread(act: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def carried() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - it is raised where the run was asked for
            raised.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(carried,), name="nbflow-trial")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _short(outcome: tuple[str, str]) -> str:
    status, text = outcome
    return f"{status} {text[:200]}".rstrip()
