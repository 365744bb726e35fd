"""tick: {the workers given back, ms until the next is due}"""

from __future__ import annotations

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Machine


def test_a_worker_whose_lease_ran_out_is_given_back(store: Store):
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    machine.claim()
    store.client.zadd(store.keys.workers(), {"w": 1})
    assert store.run_script("tick") == [[b"w"], b"", []]
    assert machine.told()[-1] == "step.queued s0"
    assert machine.events()[-1].data == {"queue": "default", "recovered": 1, "cause": "its lease ran out"}
    assert not store.client.exists("rq:worker:w")
    assert leaks(store) == []


def test_a_worker_that_lives_is_left_alone(store: Store):
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    machine.claim()
    store.run_script("beat", "w", 0, 0, "", lease_ms=60_000)
    before = everything(store)
    assert store.run_script("tick") == [[], b"", []]
    assert everything(store) == before


def test_at_most_twenty_workers_are_given_back_at_once(store: Store):
    store.client.zadd(store.keys.workers(), {f"w{i:02}": i for i in range(30)})
    assert [len(store.run_script("tick")[0]) for _ in range(3)] == [20, 10, 0]
