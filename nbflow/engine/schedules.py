"""Schedules: declared, looked after, caught up with. What is due is decided in the script `fire`, once; here is what a
script cannot know: signatures, time zones, and which version is the newest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

from nbflow.engine.launch import Launcher, Order
from nbflow.engine.options import Options
from nbflow.engine.versions import Versions
from nbflow.errors import CommandRefused, InternalError, KeyTaken, UnknownSchedule, nearest
from nbflow.model.artifacts import StagedArtifacts, artifacts_of
from nbflow.model.codec import Codec
from nbflow.model.ids import RunId
from nbflow.model.schedules import Planned, Schedule, turn_of
from nbflow.model.signing import Signer
from nbflow.model.timetable import occurrences
from nbflow.model.types import TypeTable
from nbflow.store.connect import Store, translated

__all__ = ["Schedules"]

MOST_AT_ONCE = 100
"""So many occurrences of a schedule are decided before the next one has its turn."""
MOST_BACK = 1000
"""So many occurrences one back-fill may start."""


class Schedules:
    """The schedules of a namespace."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        versions: Versions,
        launcher: Launcher,
        artifacts: Any = None,
        *,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._store, self._signer, self._versions = store, signer, versions
        self._launcher, self._artifacts = launcher, artifacts
        self._codec = Codec(types=TypeTable(), signer=signer, artifacts=artifacts)
        self._now_ms = now_ms or versions.now_ms

    @property
    def _text(self) -> Any:
        return self._store.text

    # -- declaring --------------------------------------------------------------------------------------------------

    def declare(self, schedule: Schedule, staged: StagedArtifacts | None = None) -> Planned:
        """The schedule, new, changed, or as it was: declaring it again changes nothing. A version of its flow must be
        published. What is due next stays, unless its times changed. `staged` are the artifacts of its input."""
        before = self.find(schedule.flow, schedule.name)
        if before is not None and before.schedule.is_same(schedule):
            return before
        with self._launcher.keeping(staged or StagedArtifacts(self._artifacts)) as owns:
            reply: list[bytes] = self._store.run_script(
                "schedule",
                *owns,
                flow=schedule.flow,
                schedule=schedule.name,
                record=schedule.signed(self._signer),
                timing=schedule.timing,
                next=schedule.timetable.after_ms(self._now_ms()),
            )
        if reply[0] == b"MISSING":
            self._versions.newest(schedule.flow)  # says so
        return self.get(schedule.flow, schedule.name)

    def remove(self, flow: str, name: str) -> None:
        """Remove a schedule. Its runs stay."""
        if not self._store.run_script("unschedule", flow=flow, schedule=name):
            raise self._unknown(flow, name)

    def pause(self, flow: str, name: str, *, paused: bool = True) -> None:
        """Let it start nothing, until it goes on; its catch-up says what becomes of what came due meanwhile."""
        if self._store.run_script("suspend", flow=flow, schedule=name, paused=int(paused))[0] == b"GONE":
            raise self._unknown(flow, name)

    # -- looking ----------------------------------------------------------------------------------------------------

    def find(self, flow: str, name: str) -> Planned | None:
        """One schedule, if there is one of that name."""
        with translated(self._store.url):
            found: dict[str, str] = self._text.hgetall(self._store.keys.schedule(flow, name))
        return self._planned(flow, name, found) if "record" in found else None

    def get(self, flow: str, name: str) -> Planned:
        """One schedule; UnknownSchedule names what is near."""
        found = self.find(flow, name)
        if found is None:
            raise self._unknown(flow, name)
        return found

    def all(self, flow: str | None = None) -> list[Planned]:
        """All schedules, by flow and name."""
        found = (self.find(*pair) for pair in sorted(self._names()) if flow in (None, pair[0]))
        return [planned for planned in found if planned is not None]

    def _names(self) -> Iterator[tuple[str, str]]:
        with translated(self._store.url):
            listed = cast("list[str]", self._text.zrange(self._store.keys.schedules(), 0, -1))
        for entry in listed:
            flow, _, name = entry.partition(":")
            yield flow, name

    def _planned(self, flow: str, name: str, found: dict[str, str]) -> Planned:
        schedule = Schedule.verified(found["record"], flow, name, self._signer)
        last = found.get("last")
        counts = (int(found.get(field, 0)) for field in ("started", "skipped", "missed"))
        return Planned(
            schedule,
            found.get("rev", ""),
            int(found["next"]),
            "paused" in found,
            int(last) if last else None,
            found.get("run", ""),
            *counts,
        )

    def _unknown(self, flow: str, name: str) -> UnknownSchedule:
        here = [known for of, known in self._names() if of == flow]
        hint = nearest(name, here) or "nbflow.schedules() lists those that there are."
        return UnknownSchedule(f"The flow {flow!r} has no schedule {name!r}.", hint=hint)

    # -- looking after them -----------------------------------------------------------------------------------------

    def fire(self, flow: str, name: str) -> list[RunId]:
        """Decide what is due of a schedule, and start it. The runs that were started here; whatever somebody else decided
        at the same time is not among them."""
        started: list[RunId] = []
        for _ in range(MOST_AT_ONCE):
            planned, now_ms = self.find(flow, name), self._now_ms()
            if planned is None or planned.is_paused or planned.next_ms > now_ms:
                break
            turn = turn_of(planned.schedule, planned.next_ms, now_ms)
            if turn.occurrence_ms is None:
                self._miss(planned, turn.next_ms)
            elif (run := self._start(planned, turn.occurrence_ms, turn.next_ms)) is not None:
                started.append(run)
        return started

    def _miss(self, planned: Planned, following: int) -> None:
        schedule = planned.schedule
        self._store.run_script(
            "miss", flow=schedule.flow, schedule=schedule.name, rev=planned.rev, due=planned.next_ms,
            following=following,
        )  # fmt: skip

    def _start(self, planned: Planned, occurrence_ms: int, following: int) -> RunId | None:
        schedule = planned.schedule
        order = self._order(schedule, occurrence_ms)
        run, reply = self._launcher.fire(
            order,
            self._codec,
            schedule=schedule.name,
            rev=planned.rev,
            due=planned.next_ms,
            following=following,
            overlap=schedule.overlap,
        )
        if reply[0] == b"FULL":
            raise self._launcher.full(int(reply[1]))
        if reply[0] in (b"MISSING", b"AGAIN"):  # a version went while we looked; it is due still
            raise InternalError(f"The newest version of {schedule.flow!r} is not there.")
        return run if reply[0] == b"OK" else None

    def _order(self, schedule: Schedule, occurrence_ms: int) -> Order:
        options = Options(schedule.key(occurrence_ms), (f"schedule:{schedule.name}",))
        order = self._versions.order(self._versions.newest(schedule.flow), options)
        owned = frozenset(artifacts_of([schedule.input], self._artifacts.get))
        trigger = schedule.trigger(occurrence_ms)
        return replace(order, text=schedule.input, owned=owned, trigger=trigger, by=schedule.by)

    # -- the past ---------------------------------------------------------------------------------------------------

    def backfill(self, flow: str, name: str, since_ms: int, until_ms: int | None = None) -> list[RunId]:
        """Start the occurrences from `since` up to before `until`, or up to now, all at once and whatever `overlap` says. One that was
        started already is that run, or none if it was with another input."""
        schedule = self.get(flow, name).schedule
        now_ms = self._now_ms()
        last_ms = now_ms if until_ms is None else min(until_ms - 1, now_ms)
        found: list[int] = []
        for occurrence in occurrences(schedule.timetable, since_ms - 1, last_ms):
            found.append(occurrence)
            if len(found) > MOST_BACK:
                raise CommandRefused(
                    f"The schedule {name!r} of flow {flow!r} has more than {MOST_BACK} occurrences in that time.",
                    hint="Fill a shorter time at once.",
                )
        runs: list[RunId] = []
        for occurrence in found:
            with contextlib.suppress(KeyTaken):
                runs.append(self._launcher.launch(self._order(schedule, occurrence), self._codec))
        return runs
