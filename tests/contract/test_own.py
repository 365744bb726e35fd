"""own: 'OK' | 'WANTED' | 'GONE'; upload: 1 | 0; swept: how many"""

from __future__ import annotations

from typing import Any

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.contract.test_fire import Clockwork
from tests.contract.test_triggers import Range
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Machine


def own(store: Store, digest: str = "d", *blob: bytes, run: str = "r1", how: str = "run") -> str:
    return store.run_script("own", *blob, run=run, digest=digest, how=how).decode()


def test_an_owned_artifact_counts_once_a_run(store: Store):
    machine = Machine(store, chain(1))
    machine.launch("r1")
    machine.launch("r2")
    assert own(store) == "WANTED", "it is owned, and nobody has written its bytes"
    assert own(store, "d", b"blob") == "OK"
    assert own(store) == "OK"
    assert own(store, run="r2") == "OK"
    assert store.text.hget(store.keys.owners(), "artifact:d") == "2"
    assert store.client.get(store.keys.artifact("d")) == b"blob"
    assert leaks(store) == []


def test_a_run_that_is_gone_owns_and_writes_nothing(store: Store):
    Machine(store, chain(1))
    before = everything(store)
    assert own(store, "d", b"blob") == "GONE"
    assert everything(store) == before


def test_bytes_that_come_too_late_are_left_to_the_sweepers(store: Store):
    """A worker wrote them into the artifact store, and the run was deleted meanwhile."""
    assert own(store, "d", how="there") == "GONE"
    assert store.text.hgetall(store.keys.dust()) == {"d": "r1"}


def test_bytes_that_somebody_else_owns_are_no_dust(store: Store):
    Machine(store, chain(1)).launch("r2")
    own(store, run="r2")
    assert own(store, "d", how="there") == "GONE"
    assert not store.client.exists(store.keys.dust())


def test_a_run_owns_its_input_before_it_is_launched(store: Store):
    machine = Machine(store, chain(1))
    assert own(store, "d", b"blob", how="start") == "OK"
    assert leaks(store) == []
    machine.launch("r1")
    assert not store.client.exists(store.keys.retire())
    assert leaks(store) == []


def test_what_a_start_owned_goes_if_no_launch_follows(store: Store):
    own(store, "d", b"blob", how="start")
    assert store.run_script("retire") == 0
    assert store.client.exists(store.keys.artifact("d")), "it has an hour"
    store.client.zadd(store.keys.retire(), {"r1": 0})
    assert store.run_script("retire") == 0
    assert everything(store) == {}


def owned(store: Store) -> dict[str, str]:
    """How many own which artifact, once what was brought for a declaration is nobody's but that's."""
    store.client.zadd(store.keys.retire(), {"holder": 0}, xx=True)
    while store.run_script("retire"):
        pass
    assert leaks(store) == []
    counted: Any = store.text.hgetall(store.keys.owners())
    return {key[9:]: count for key, count in counted.items() if key.startswith("artifact:")}


def bring(store: Store, *digests: str) -> None:
    for digest in digests:
        assert own(store, digest, b"blob", run="holder", how="start") == "OK"


def test_a_schedule_owns_the_artifacts_of_its_input_as_it_is_declared_now(store: Store):
    there = Clockwork(store)
    named = {"flow": "f", "schedule": "s", "timing": "t", "next": 9}
    for record, owns in (("r1", ["d1"]), ("r2", ["d1", "d2"]), ("r2", ["d1", "d2"]), ("r3", ["d3"]), ("r4", [])):
        bring(store, *owns)
        store.run_script("schedule", *owns, record=record, **named)
        assert owned(store) == dict.fromkeys(owns, "1")
        assert {key.rpartition(":")[2] for key in store.text.scan_iter("nbflow:artifact:*")} == set(owns)
    bring(store, "d1")
    store.run_script("schedule", "d1", record="r5", **named)
    assert store.run_script("unschedule", flow="f", schedule="s") == 1
    assert owned(store) == {}
    assert there.field("record") is None


def test_a_flow_on_a_trigger_owns_the_artifacts_of_its_input(store: Store):
    Range(store)

    def declare(flow: str, subscription: str, *owns: str) -> None:
        bring(store, *owns)
        more = {"record": "r", "source": "a.b", "match": "[]"}
        store.run_script("trigger", *owns, trigger="t", flow=flow, subscription=subscription, **more)

    declare("f", "s1", "d1", "d2")
    declare("g", "s1", "d2")
    assert owned(store) == {"d1": "1", "d2": "2"}
    declare("f", "s2", "d3")
    assert owned(store) == {"d2": "1", "d3": "1"}
    assert store.run_script("untrigger", trigger="t", flow="g") == 1
    assert owned(store) == {"d3": "1"}
    assert store.run_script("untrigger", trigger="t", flow="") == 1
    assert owned(store) == {}


def test_an_upload_goes_if_no_launch_follows(store: Store):
    machine = Machine(store, chain(1))
    for key in (store.keys.plan(machine.plan.digest), store.keys.bundle("b")):
        assert 3500 < store.client.ttl(key) <= 3600
    machine.launch()
    for key in (store.keys.plan(machine.plan.digest), store.keys.bundle("b")):
        assert store.client.ttl(key) == -1


def test_an_upload_of_what_is_there_changes_nothing_of_it(store: Store):
    """Else a second launcher that ends before it launches would take the code of the first one's run along."""
    machine = Machine(store, chain(1))
    machine.launch()
    before = everything(store)
    machine.upload()
    assert everything(store) == before


def test_an_upload_that_waits_is_given_another_hour(store: Store):
    Machine(store, chain(1))
    store.client.expire(store.keys.bundle("b"), 5)
    assert store.run_script("upload", b"bundle", kind="bundle", digest="b") == 0
    assert store.client.ttl(store.keys.bundle("b")) > 3500


def test_a_plan_of_many_fields_is_uploaded_whole(store: Store):
    parts = [str(i) for i in range(30_000)]
    assert store.run_script("upload", *parts, kind="plan", digest="p") == 1
    assert store.client.hlen(store.keys.plan("p")) == 15_000


def test_what_was_left_again_meanwhile_stays_in_the_dust(store: Store):
    store.client.hset(store.keys.dust(), mapping={"a": "r1", "b": "r2"})
    assert store.run_script("swept", "a", "r1", "b", "an earlier run", "c", "r3") == 1
    assert store.text.hgetall(store.keys.dust()) == {"b": "r2"}
