"""One run in the scripts and in the model, settle by settle: they must agree after each."""

from __future__ import annotations

from hypothesis import strategies as st

from nbflow.model.definition import FlowSpec
from nbflow.model.ids import split_task
from nbflow.store.connect import Store
from tests.leaks import leaks
from tests.machine import Claimed
from tests.property.closing_model import Model, Task
from tests.property.random_flows import Deed, Deeds
from tests.property.stand_in_worker import StandIn, key_of

__all__ = ["Race"]


class Race:
    """`sliced` says that the store does little at a time."""

    def __init__(self, store: Store, flow: FlowSpec, data: st.DataObject, *, sliced: bool = False) -> None:
        store.client.flushall()
        self.sliced = sliced
        self.store, self.flow, self.data = store, flow, data
        self.model, self.deeds = Model(flow), Deeds(flow, data)
        self.worker = StandIn(store, flow)
        self.watched = {
            step.name for step in flow.steps if '"w":1' in self.worker.machine.plan.table[f"step:{step.name}"]
        }
        self.held: dict[str, Claimed] = {}

    def run(self) -> None:
        self.worker.machine.launch()
        self._take(self.model.launch())
        while self.held:
            self._settle(self.held.pop(self.data.draw(st.sampled_from(sorted(self.held)))))
        self._compare_ends()

    def _settle(self, claimed: Claimed) -> None:
        deed = self.deeds.next(Task(*split_task(claimed.task)))
        self.worker.settle(claimed, deed)
        self._follow(claimed, deed)

    def _follow(self, claimed: Claimed, deed: Deed) -> None:
        """The model does it too."""
        task = Task(*split_task(claimed.task))
        if deed.fails:
            index = [int(part) for part in task.index.split(".")] if task.index else [None]
            failure = {"error": f"ValueError: {task}", "attempt": claimed.attempt, "index": index}
            ready = self.model.failed(task, failure)
        else:
            ready = self.model.completed(task, deed.result, deed.applied(self.flow.step(task.step)))
        self._take(ready)

    def _take(self, ready: list[Task]) -> None:
        """What became ready is claimed: the tasks, their order, what each receives and is called."""
        new = self.worker.claim_all()
        assert self._ordered([task.task for task in new]) == self._ordered([str(task) for task in ready])
        for claimed in new:
            task = Task(*split_task(claimed.task))
            if not self.flow.step(task.step).is_entry:
                assert _plain(self.worker.received(claimed)) == _plain(self.model.receives(task))
            self._compare_key(claimed, task)
            self.held[claimed.task] = claimed
        assert self.held.keys() == {str(task) for task in self.model.outstanding}
        self._compare_closing()

    def _ordered(self, tasks: list[str]) -> list[str]:
        """In plan order, and by index as they came. Of each(a, b) nothing is promised within a step, of slices nothing
        between steps."""
        pairs = {step.name for step in self.flow.steps if len(step.each) > 1}
        place = {split_task(task)[0]: i for i, task in reversed(list(enumerate(tasks)))}
        if self.sliced:
            place = {step.name: i for i, step in enumerate(self.flow.steps)}
        steps = [split_task(task)[0] for task in tasks]
        keyed = zip(
            [place[step] for step in steps],
            [task if step in pairs else "" for step, task in zip(steps, tasks, strict=True)],
            tasks,
            strict=True,
        )
        return [task for *_, task in sorted(keyed, key=lambda entry: entry[:2])]

    def _compare_key(self, claimed: Claimed, task: Task) -> None:
        step = self.flow.step(task.step)
        key = self.store.text.hget(self.store.keys.rq_job(claimed.job), "key")
        topic = step.each[0] if step.has_key and step.each else ""
        is_named = bool(topic) and not topic.startswith("failed:") and not self.model.topics[topic].numbered
        assert key == (key_of(self.model.topics[topic].emitted[task.index]) if is_named else None)

    def _compare_closing(self) -> None:
        """Steps that somebody watches are closed, short and skipped at the same settle."""
        fields: dict[str, str] = self.store.text.hgetall(self.store.keys.run("r1"))  # pyright: ignore[reportAssignmentType]
        if fields["status"] != "running":
            return
        for name in self.watched:
            step = self.model.steps[name]
            assert (f"d:{name}" in fields) == step.closed, f"{name} is closed"
            assert not step.closed or (f"z:{name}" in fields) == step.short, f"{name} is short"

    def _compare_ends(self) -> None:
        machine, model = self.worker.machine, self.model
        assert not model.outstanding
        *_, end = events = machine.events()
        skipped = {event.task: event.data["reason"] for event in events if event.type == "step.skipped"}
        assert skipped.keys() == model.skipped.keys()
        assert {name: skipped[name] for name in skipped if name in self.watched} == {
            name: model.skipped[name] for name in model.skipped if name in self.watched
        }
        if model.failed_step is None:
            assert (end.type, end.data["leaves"]) == ("flow.completed", model.leaves)
        else:
            assert (end.type, end.data["failedStep"]) == ("flow.failed", model.failed_step)
        assert machine.run_field("status") == end.type.removeprefix("flow.")
        assert leaks(self.store) == []


def _plain(received: object) -> object:
    """Failures by what names them: their traceback and duration are the worker's business."""
    if isinstance(received, dict):
        index = received["index"]
        parts = index if isinstance(index, list) else index["v"] if isinstance(index, dict) else [index]
        return received["error"], received["attempt"], parts
    return [_plain(one) for one in received] if isinstance(received, list | tuple) else received
