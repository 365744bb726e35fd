"""A run in process with the runs that it starts, on one clock: whose turn it is, who begins, and who hears of an end.

What the scripts of `lua/parts/children.lua` do. A run by itself is `engine.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nbflow.errors import InternalError
from nbflow.testing.by_hand import Act
from nbflow.testing.cache import Cache, KeptEnds
from nbflow.testing.chance import Chance, Crash
from nbflow.testing.clock import Clock
from nbflow.testing.code import Code, Execution, Order
from nbflow.testing.engine import Engine
from nbflow.testing.port import Output
from nbflow.testing.record import Record
from nbflow.testing.takeover import Takeover
from nbflow.testing.waits import Alarm, Answers

__all__ = ["Family", "Member"]

Acts = Mapping[str, Sequence[Act]]
_REASON = "the run that started it was ended"


@dataclass(slots=True)
class Member:
    """A run, who started it, and for which execution that waits."""

    engine: Engine
    record: Record
    parent: str = ""
    awaiter: Execution | None = None
    has_told: bool = False


class Family:
    """All runs of one trial's run. `codes` are those of the flows that may be started, by name."""

    def __init__(
        self,
        codes: Mapping[str, Code],
        chance: Chance,
        clock: Clock,
        *,
        answers: Answers,
        crash: Callable[[], Crash],
        ends: KeptEnds,
    ) -> None:
        self._ends = ends
        self._codes, self._chance, self._clock, self._answers, self._crash = codes, chance, clock, answers, crash
        self._output = Output()
        self._starts: list[tuple[str, dict[str, str], Engine, Execution | None]] = []
        self.members: dict[str, Member] = {}

    def run(self, code: Code, order: Order, takeover: Takeover, crash: Crash, acts: Acts) -> Member:
        """Do all of it. Returns the run that was asked for; `members` are all."""
        root = self._member(code, order, crash, takeover, acts=acts)
        with code.world.entered(), self._output.captured():
            root.engine.launch({**code.start(order), **takeover.told})
            while any(not member.engine.has_ended for member in self.members.values()):
                self._move()
                self._follow()
        return root

    def start(self, run: str, fields: dict[str, str], parent: Engine, awaiter: Execution | None = None) -> None:
        """A run begins when its starter has done all else."""
        if run not in self.members:
            self._starts.append((run, fields, parent, awaiter))

    def happens(self, alarm: Alarm) -> None:
        """An event from outside reaches all runs."""
        for member in list(self.members.values()):
            if not member.engine.has_ended:
                member.engine.ring(alarm)

    def _member(
        self, code: Code, order: Order, crash: Crash, takeover: Takeover, parent: str = "", *, acts: Acts | None = None
    ) -> Member:
        record = Record(order.run, code.spec.name, self._clock)
        engine = Engine(
            code, order, record, self._chance, crash, family=self, output=self._output, takeover=takeover,
            answers=self._answers, acts=acts,
        )  # fmt: skip
        depth = 1 + self._codes[self.members[parent].record.flow].reads.depths[parent] if parent else 0
        for one in {*self._codes.values(), code}:
            one.reads.know(order.run, engine.decisions, record, depth)
        member = self.members[order.run] = Member(engine, record, parent)
        return member

    # -- whose turn it is ---------------------------------------------------------------------------------------------

    def _move(self) -> None:
        engines = [member.engine for member in self.members.values() if not member.engine.has_ended]
        if any(engine.act() for engine in engines):
            return
        offers = [(engine, *engine.offer()) for engine in engines]
        held, ready = [engine.held for engine in engines], [len(ready) for _, ready, _ in offers]
        later = sum(engine.timers + (due_ms is not None) for engine, _, due_ms in offers)
        what, which = self._chance.pick(sum(held), sum(ready), later)
        if what == "jump":
            self._jump([(engine, due_ms) for engine, _, due_ms in offers])
            return
        number, at = _whose(which, held if what == "settle" else ready)
        engine, may_start, _ = offers[number]
        engine.activate()
        if what == "settle":
            engine.settle(at)
        else:
            engine.start(may_start[at])

    def _jump(self, due: Sequence[tuple[Engine, int | None]]) -> None:
        moments = [
            (ms, number) for number, (engine, rate_ms) in enumerate(due) if (ms := engine.next_ms(rate_ms)) is not None
        ]
        if moments:
            _, number = min(moments)
            engine, rate_ms = due[number]
            engine.activate()
            engine.jump(rate_ms or 0)
            return
        for engine, _ in due:
            engine.refuse_to_wait()
        raise InternalError("The runs in this process cannot go on, and have not ended.")

    # -- what follows -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Who was started begins, who was started by a run that was ended is ended, and who awaits an end hears of it."""
        changed = True
        while changed:
            changed = self._begin() or self._cancel() or self._tell()

    def _begin(self) -> bool:
        starts, self._starts = self._starts, []
        for run, fields, parent, awaiter in starts:
            code = self._codes[fields["flow"]]
            order = Order(run, fields["input"], fields["inputdigest"], fields["sig"])
            takeover = Takeover(cache=Cache(run, self._ends, lambda: self._clock.now_ms))
            member = self._member(code, order, self._crash(), takeover, parent.run)
            member.awaiter = awaiter
            member.engine.activate()
            member.engine.launch(json.loads(fields["start"]))
        return bool(starts)

    def _cancel(self) -> bool:
        for member in self.members.values():
            parent = self.members.get(member.parent)
            if parent is not None and parent.engine.was_ended and not member.engine.has_ended:
                member.engine.end(_REASON, {"run": member.parent})
                return True
        return False

    def _tell(self) -> bool:
        for run, member in list(self.members.items()):
            if member.engine.has_ended and member.awaiter is not None and not member.has_told:
                member.has_told = True
                parent = self.members[member.parent].engine
                if not parent.has_ended:
                    parent.activate()
                    parent.join(member.awaiter, run, member.engine.status)
                return True
        return False


def _whose(which: int, counts: Sequence[int]) -> tuple[int, int]:
    """Which of several the number falls to, and what is left of it."""
    number = 0
    while which >= counts[number]:
        which -= counts[number]
        number += 1
    return number, which
