"""publish: {'OK', number} | {'BEHIND', number} | {'MISSING', what}; unpublish: {'OK', count} | {'USED', what}"""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Machine


def publish(machine: Machine, last: int, *, bundle: str = "b", most: int = 100) -> list[Any]:
    record = "0" * 64 + json.dumps({"plan": machine.plan.digest, "bundle": bundle})
    return machine.store.run_script(
        "publish", flow="f", last=last, plan=machine.plan.digest, bundle=bundle, record=record, most=most
    )


def bundles(store: Store, *names: str) -> None:
    for name in names:
        store.run_script("upload", b"blob", kind="bundle", digest=name)


def test_a_version_owns_its_code_and_is_the_newest(store: Store):
    machine = Machine(store, chain(1))
    assert publish(machine, 0) == [b"OK", 1]
    assert store.text.hget(store.keys.versions("f"), "newest") == "1"
    assert store.text.smembers(store.keys.published()) == {"f"}
    assert store.text.hgetall("nbflow:owners") == {f"plan:{machine.plan.digest}": "1", "bundle:b": "1"}
    assert store.client.ttl(store.keys.bundle("b")) == -1
    assert leaks(store) == []


def test_of_two_who_publish_at_once_one_is_told_to_look_again(store: Store):
    machine = Machine(store, chain(1))
    publish(machine, 0)
    before = everything(store)
    assert publish(machine, 0) == [b"BEHIND", 1]
    assert everything(store) == before
    assert publish(machine, 1) == [b"OK", 2]


@pytest.mark.parametrize("what", ["plan", "bundle"])
def test_what_is_missing_is_named_and_nothing_is_written(store: Store, what: str):
    machine = Machine(store, chain(1))
    store.client.delete({"plan": store.keys.plan(machine.plan.digest), "bundle": store.keys.bundle("b")}[what])
    before = everything(store)
    assert publish(machine, 0) == [b"MISSING", what.encode()]
    assert everything(store) == before


def test_the_oldest_version_goes_with_its_code(store: Store):
    machine = Machine(store, chain(1))
    bundles(store, "b1", "b2", "b3")
    for last, bundle in enumerate(["b1", "b2", "b3"]):
        publish(machine, last, bundle=bundle, most=2)
    assert set(store.text.hgetall(store.keys.versions("f"))) == {"newest", "2", "3"}
    assert not store.client.exists(store.keys.bundle("b1"))
    assert leaks(store) == []


def test_a_run_keeps_the_code_of_a_version_that_goes(store: Store):
    machine = Machine(store, chain(1))
    publish(machine, 0)
    machine.launch()
    assert store.run_script("unpublish", flow="f") == [b"OK", 1]
    assert store.client.exists(store.keys.bundle("b"))
    assert leaks(store) == []


def test_an_unpublished_flow_leaves_nothing(store: Store):
    machine = Machine(store, chain(1))
    publish(machine, 0)
    publish(machine, 1)
    assert store.run_script("unpublish", flow="f") == [b"OK", 2]
    assert everything(store) == {}
    assert store.run_script("unpublish", flow="f") == [b"OK", 0]


def test_a_flow_that_something_starts_stays(store: Store):
    machine = Machine(store, chain(1))
    publish(machine, 0)
    store.client.sadd(store.keys.uses("f"), "schedule nightly")
    before = everything(store)
    assert store.run_script("unpublish", flow="f") == [b"USED", b"schedule nightly"]
    assert everything(store) == before


def test_a_run_is_told_its_version(store: Store):
    machine = Machine(store, chain(1))
    store.run_script(
        "launch", "version", "3", id="r1", flow="f", plan=machine.plan.digest, bundle="b", sig="", input="{}",
        inputdigest="", start="{}", key="", tags="[]", queue="", priority="", delay="", by="{}",
    )  # fmt: skip
    assert machine.run_field("version") == "3"
