"""A race in which things go wrong between any two script calls: workers die, answers get lost and things are said again,
late results come, attempts fail and are tried again, the run is canceled. The model knows nothing of all that."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st

from nbflow.model.ids import split_task
from tests.laws import broken_laws
from tests.leaks import leaks
from tests.machine import Claimed
from tests.property.closing_model import Task
from tests.property.race import Race
from tests.waits import pass_time

__all__ = ["RoughRace"]

TROUBLES = st.sampled_from([*["none"] * 6, "death", "said twice", "no lease", "retry", "claimed twice", "cancel"])
MOST_DEATHS = 3  # a task that loses more workers fails


class RoughRace(Race):
    deaths = 0
    is_canceled = False

    def run(self) -> None:
        self.worker.machine.launch()
        self._take(self.model.launch())
        while self._can_go_on() and not self.is_canceled:
            self._step()
        self._cancel_ends() if self.is_canceled else self._compare_ends()
        assert broken_laws(self.store.text, "r1") == []

    def _can_go_on(self) -> bool:
        return bool(self.held)

    def _step(self) -> None:
        self._go_on(self.held.pop(self.data.draw(st.sampled_from(sorted(self.held)))))

    def _go_on(self, claimed: Claimed) -> None:
        match self.data.draw(TROUBLES):
            case "death" if self.deaths < MOST_DEATHS:
                self._die(claimed)
            case "said twice":
                self._settle_twice(claimed)
            case "no lease":
                self._settle_without_a_lease(claimed)
            case "retry":
                self._try_again(claimed)
            case "claimed twice":
                self._claim_twice(claimed)
            case "cancel" if self.data.draw(st.booleans()):
                self._cancel(claimed)
            case _:
                self._settle(claimed)

    def _die(self, claimed: Claimed) -> None:
        """All that the worker held goes back, and a result that comes later is refused."""
        self.deaths += 1
        lost = [claimed, *self.held.values()]
        self.store.run_script("giveback", worker="w", cause="killed")
        late = self.deeds.next(Task(*split_task(claimed.task)))
        ended = self.worker.ending(claimed, late)
        assert self.worker.machine.settle(claimed, ended.emits, outcome=ended.outcome, data=ended.data)[0] == "STALE"
        self.worker.machine.birth("w")
        self.held.clear()
        again = {task.task: task for task in self.worker.claim_all()}
        assert {name: task.payloads for name, task in again.items()} == {task.task: task.payloads for task in lost}
        assert {name: task.attempt for name, task in again.items()} == {task.task: task.attempt for task in lost}
        self.held |= again

    def _settle_twice(self, claimed: Claimed) -> None:
        """The answer got lost, and the worker says the same again."""
        machine, deed = self.worker.machine, self.deeds.next(Task(*split_task(claimed.task)))
        ended = self.worker.ending(claimed, deed)
        assert machine.settle(claimed, ended.emits, outcome=ended.outcome, data=ended.data)[0] == "OK"
        told = machine.told()
        machine.leases -= 1
        assert machine.settle(claimed, ended.emits, outcome=ended.outcome, data=ended.data)[0] == "AGAIN"
        assert machine.told() == told
        self._follow(claimed, deed)

    def _settle_without_a_lease(self, claimed: Claimed) -> None:
        """Somebody settles who never had the task; then its worker does."""
        told, mine = self.worker.machine.told(), claimed.lease
        claimed.lease += 1_000_000
        assert self.worker.machine.settle(claimed)[0] == "AGAIN"
        assert self.worker.machine.told() == told
        claimed.lease = mine
        self._settle(claimed)

    def _try_again(self, claimed: Claimed) -> None:
        data = f'{{"error":"E","delay":60000,"nextAttempt":{claimed.attempt + 1}}}'
        assert self.worker.machine.settle(claimed, outcome="retry", data=data)[0] == "OK"
        assert self.worker.claim_all() == []
        pass_time(self.store, 60_000)
        self.store.run_script("tick")
        (again,) = self.worker.claim_all()
        assert (again.task, again.attempt, again.payloads) == (claimed.task, claimed.attempt + 1, claimed.payloads)
        self.held[again.task] = again

    def _claim_twice(self, claimed: Claimed) -> None:
        """A claim whose answer got lost gives the same task."""
        machine = self.worker.machine
        now, machine.leases = machine.leases, claimed.lease - 1
        again = machine.claim("w", was="again")
        machine.leases = now
        assert again == claimed
        self._settle(claimed)

    def _cancel(self, claimed: Claimed) -> None:
        self.is_canceled = True
        assert self.store.run_script("cancel", id="r1", reason='""', by="{}")[0] == b"OK"
        self.late = claimed

    def _cancel_ends(self) -> None:
        """Each unfinished task is canceled once, what comes late counts for nothing, nothing is left."""
        machine = self.worker.machine
        assert machine.settle(self.late)[0] in ("AGAIN", "STALE")
        machine.slice_all()
        canceled = Counter(event.task for event in machine.events() if event.type == "step.canceled")
        assert canceled == Counter(str(task) for task in self.model.outstanding)
        assert machine.claim("w") is None
        assert machine.run_field("status") == "canceled"
        assert leaks(self.store) == []
