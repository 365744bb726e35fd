"""Jobs of RQ's own and of other namespaces in our queues: they are not ours to take, and not ours to lose."""

from __future__ import annotations

from rq import Queue

from nbflow.store.connect import Store
from tests.graphs import chain
from tests.machine import Machine


def test_a_job_of_rqs_own_stays_in_the_queue(store: Store) -> None:
    queue = Queue("default", connection=store.client)
    before = queue.enqueue("operator.add", 1, 2)
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch()
    after = queue.enqueue("operator.add", 3, 4)
    task = machine.claim()
    assert task is not None
    assert task.task == "s0"
    machine.settle(task, want=True)
    assert machine.claim() is None
    assert sorted(queue.job_ids) == sorted([before.id, after.id])
    assert before.get_status(refresh=True) == "queued"


def test_a_job_of_another_namespace_is_left_to_it(store: Store) -> None:
    """Even where somebody forged a queue's name."""
    other = Store(store.url, "other")
    try:
        theirs = Machine(other, chain(1))
        theirs.birth("w")
        theirs.launch()
        assert other.keys.rq_queue("default") != store.keys.rq_queue("default")
        job = other.text.lpop(other.keys.rq_queue("default"))
        store.text.rpush(store.keys.rq_queue("default"), str(job))
        machine = Machine(store, chain(1))
        machine.birth("v")
        assert machine.claim("v") is None
        assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == [job]
    finally:
        other.close()


def test_strangers_before_ours_do_not_hide_it(store: Store) -> None:
    queue = Queue("default", connection=store.client)
    for _ in range(20):
        queue.enqueue("operator.add", 1, 2)
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    assert queue.count == 20
