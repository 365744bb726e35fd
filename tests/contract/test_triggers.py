"""The scripts of triggers. trigger: {'NEW'|'CHANGED'|'SAME'} | {'MISSING'} | {'MANY', most}; untrigger: how many; mute: 1 | 0;
trip: {'OK', flows} | {'PAUSED'} | {'GONE'}; pull: {'OK', id} | {'KEY', run, same|other} | {'DONE'} | {'GONE'} |
{'MISSING', what} | {'AGAIN', id} | {'FULL', percent}; drop: 1 | 0; and what emit and tick say of firings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Machine


class Range:
    """The flows `f` and `g`, and triggers for them, fired by hand."""

    def __init__(self, store: Store) -> None:
        self.store, self.machine = store, Machine(store, chain(1))
        for flow in ("f", "g"):
            self.publish(flow)

    def publish(self, flow: str) -> None:
        record = "0" * 64 + json.dumps({"plan": self.machine.plan.digest, "bundle": "b"})
        self.store.run_script(
            "publish", flow=flow, last=0, plan=self.machine.plan.digest, bundle="b", record=record, most=100
        )

    def declare(
        self,
        name: str = "t",
        flow: str = "f",
        *,
        source: str = "a.b",
        match: str = "[]",
        record: str = "r",
        on: str = "s",
    ) -> list[Any]:
        return self.store.run_script(
            "trigger", trigger=name, record=record, source=source, match=match, flow=flow, subscription=on
        )

    def emit(self, payload: Any = None, event: str = "e1", topic: str = "a.b") -> int:
        reply = self.store.run_script("emit", topic=topic, payload=json.dumps(payload), nonce=event, sig="sig")
        return reply[2]

    def trip(self, payload: Any = None, event: str = "e1", name: str = "t") -> list[Any]:
        return self.store.run_script("trip", trigger=name, payload=json.dumps(payload), key="k", nonce=event, sig="sig")

    def pull(self, run: str, flow: str = "f", event: str = "e1", name: str = "t", **more: Any) -> list[Any]:
        named: dict[str, Any] = {
            "flow": flow, "plan": self.machine.plan.digest, "bundle": "b", "sig": "s", "input": "{}", "inputdigest": "d",
            "start": '{"input":{}}', "key": f"t@{event}", "tags": "[]", "queue": "", "priority": "", "delay": "", "by": "{}",
        } | more  # fmt: skip
        return self.store.run_script("pull", "trigger", "{}", firing=event, trigger=name, id=run, **named)

    def drop(self, error: str = "", flow: str = "f", event: str = "e1", name: str = "t") -> int:
        return self.store.run_script("drop", firing=event, trigger=name, flow=flow, error=error)

    def firing(self, event: str = "e1") -> dict[str, str]:
        return self.store.text.hgetall(self.store.keys.firing(event))  # pyright: ignore[reportReturnType]

    def open(self, event: str = "e1") -> list[str]:
        return sorted(field for field in self.firing(event) if " " in field)

    def field(self, field: str, name: str = "t") -> str | None:
        return self.store.text.hget(self.store.keys.trigger(name), field)  # pyright: ignore[reportReturnType]


@pytest.fixture
def there(store: Store) -> Range:
    return Range(store)


def refused(there: Range, reply: list[Any], expected: list[Any], before: Any) -> None:
    assert reply == expected
    assert everything(there.store) == before


# -- declaring ----------------------------------------------------------------------------------------------------------


def test_a_trigger_starts_a_published_flow(there: Range):
    before = everything(there.store)
    refused(there, there.declare(flow="other"), [b"MISSING"], before)
    assert there.declare() == [b"NEW"]
    assert leaks(there.store) == []


def test_declaring_again_changes_nothing(there: Range):
    there.declare()
    before = everything(there.store)
    refused(there, there.declare(), [b"SAME"], before)
    assert there.declare(record="other") == [b"CHANGED"]
    assert there.declare(record="other", on="other") == [b"CHANGED"]


def test_a_trigger_that_changes_its_source_takes_its_flows_along(there: Range):
    there.declare()
    there.declare(flow="g")
    there.declare(record="r2", source="c.d")
    assert there.emit() == 0
    assert there.emit(topic="c.d", event="e2") == 2
    assert leaks(there.store) == []


def test_a_source_has_so_many_listeners_at_most(there: Range):
    for number in range(100):
        assert there.declare(f"t{number}") == [b"NEW"]
    before = everything(there.store)
    refused(there, there.declare("one.more"), [b"MANY", 100], before)
    assert there.declare("t7", record="changed") == [b"CHANGED"]
    there.declare("t7", record="r3", source="c.d")
    assert there.declare("one.more") == [b"NEW"]
    refused(there, there.declare("t7", record="r4"), [b"MANY", 100], everything(there.store))
    assert there.emit() == 100
    assert leaks(there.store) == []


def test_a_trigger_goes_with_its_last_flow_and_leaves_nothing(there: Range):
    before = everything(there.store)
    there.declare()
    there.declare(flow="g")
    assert there.store.run_script("unpublish", flow="f") == [b"USED", b"trigger t"]
    assert there.store.run_script("untrigger", trigger="t", flow="other") == 0
    assert there.store.run_script("untrigger", trigger="t", flow="f") == 1
    assert leaks(there.store) == []
    assert there.store.run_script("untrigger", trigger="t", flow="") == 1
    assert there.store.run_script("untrigger", trigger="t", flow="") == 0
    assert everything(there.store) == before


def test_all_flows_of_a_trigger_go_at_once(there: Range):
    before = everything(there.store)
    for flow in ("f", "g"):
        there.declare(flow=flow)
    assert there.store.run_script("untrigger", trigger="t", flow="") == 2
    assert everything(there.store) == before


# -- firing -------------------------------------------------------------------------------------------------------------


def test_an_event_is_for_all_that_listen_and_match(there: Range):
    there.declare("all")
    there.declare("all", "g")
    there.declare("paid", match='[["order.status","paid"]]')
    there.declare("elsewhere", source="c.d")
    assert there.emit({"order": {"status": "paid"}}) == 3
    assert there.open() == ["all f", "all g", "paid f"]
    assert there.emit({"order": "paid"}, event="e2") == 2
    assert there.emit(event="e3", topic="nobody.here") == 0
    assert leaks(there.store) == []


def test_an_event_that_is_told_again_fires_once(there: Range):
    there.declare()
    assert there.emit() == 1
    assert there.emit() == 1
    assert there.pull("r1") == [b"OK", b"r1"]
    assert there.emit() == 0
    assert there.firing() == {}


def test_what_is_paused_starts_nothing_and_counts(there: Range):
    there.declare()
    there.declare(flow="g")
    assert there.store.run_script("mute", trigger="t", paused=1) == 1
    assert there.emit() == 0
    assert (there.field("ignored"), there.firing()) == ("1", {})
    assert there.store.run_script("mute", trigger="t", paused=0) == 1
    assert there.emit(event="e2") == 2
    assert there.store.run_script("mute", trigger="no", paused=0) == 0


def test_a_trigger_is_fired_by_name(there: Range):
    there.declare(source="@t", match='[["n",1]]')
    assert there.trip({"n": 2}) == [b"OK", 0]
    assert there.trip({"n": 1}, "e2") == [b"OK", 1]
    assert there.trip({"n": 1}, "e2") == [b"OK", 1]
    assert (there.firing("e2")["source"], there.firing("e2")["key"]) == ("@t", "k")
    there.store.run_script("mute", trigger="t", paused=1)
    assert there.trip({"n": 1}, "e3") == [b"PAUSED"]
    assert there.trip(name="no", event="e4") == [b"GONE"]
    there.declare("topical")
    assert there.trip(name="topical", event="e5") == [b"GONE"]
    assert leaks(there.store) == []


# -- starting -----------------------------------------------------------------------------------------------------------


def test_a_flow_is_started_once_for_a_firing(there: Range):
    there.declare()
    there.declare(flow="g")
    there.emit()
    assert there.pull("r1") == [b"OK", b"r1"]
    assert there.machine.told("r1") == ["flow.start", "step.queued s0"]
    assert there.machine.run_field("trigger", "r1") == "{}"
    assert (there.field("started f"), there.field("run f")) == ("1", "r1")
    before = everything(there.store)
    refused(there, there.pull("r2"), [b"DONE"], before)
    assert there.open() == ["t g"]
    assert there.pull("r3", "g") == [b"OK", b"r3"]
    assert there.firing() == {}
    assert leaks(there.store) == []


def test_an_event_whose_key_was_there_starts_nothing_more(there: Range):
    there.declare()
    for event in ("e1", "e2"):
        there.emit(event=event)
    assert there.pull("r1", key="same") == [b"OK", b"r1"]
    assert there.pull("r2", event="e2", key="same", inputdigest="other") == [b"KEY", b"r1", b"other"]
    assert (there.field("started f"), there.field("repeated f"), there.firing("e2")) == ("1", "1", {})
    assert leaks(there.store) == []


def test_what_was_taken_off_a_trigger_meanwhile_is_not_started(there: Range):
    there.declare()
    there.declare(flow="g")
    there.emit()
    there.store.run_script("untrigger", trigger="t", flow="f")
    assert there.pull("r1") == [b"GONE"]
    assert there.open() == ["t g"]
    there.store.run_script("untrigger", trigger="t", flow="")
    assert there.pull("r2", "g") == [b"GONE"]
    assert there.firing() == {}
    assert leaks(there.store) == []


@pytest.mark.parametrize("what", ["plan", "bundle"])
def test_a_start_whose_code_is_missing_stays_to_be_done(there: Range, what: str):
    there.declare()
    there.emit()
    there.store.client.delete(there.store.keys.plan(there.machine.plan.digest) if what == "plan" else "nbflow:bundle:b")
    before = everything(there.store)
    refused(there, there.pull("r1"), [b"MISSING", what.encode()], before)


def test_a_run_of_that_id_is_not_started_again(there: Range):
    there.declare()
    there.emit()
    there.machine.launch("r1")
    before = everything(there.store)
    refused(there, there.pull("r1"), [b"AGAIN", b"r1"], before)


def test_a_start_waits_while_the_server_is_full(there: Range):
    there.declare()
    there.emit()
    info: dict[str, Any] = there.store.client.info("memory")  # pyright: ignore[reportAssignmentType]
    there.store.client.config_set("maxmemory", int(info["used_memory"] * 1.05))
    try:
        reply = there.pull("r1")
    finally:
        there.store.client.config_set("maxmemory", 0)
    assert reply[0] == b"FULL"
    assert there.pull("r1") == [b"OK", b"r1"]


def test_what_cannot_be_started_is_dropped_and_told(there: Range):
    there.declare()
    there.declare(flow="g")
    there.emit()
    assert there.drop("why") == 1
    assert there.drop("why") == 0
    assert (there.field("failed f"), there.field("error f")) == ("1", "why")
    assert there.drop(flow="g") == 1
    assert (there.field("failed g"), there.firing()) == (None, {})
    there.emit(event="e2")
    there.store.run_script("untrigger", trigger="t", flow="")
    assert [there.drop("why", flow, "e2") for flow in ("f", "g")] == [1, 1]
    assert leaks(there.store) == []


def test_what_nobody_started_is_offered_to_one_who_asks_and_later_to_another(there: Range):
    """The offer is no claim: who dies with it costs ten seconds, and no start."""
    there.declare()
    there.emit()
    assert there.store.run_script("tick", "schedules")[3] == []  # who caused it is at it
    there.store.client.zadd(there.store.keys.firings(), {"e1": 0})
    assert there.store.run_script("tick", "schedules")[3] == [b"*e1"]
    assert there.store.run_script("tick", "schedules")[3] == []
    assert len(there.store.run_script("tick")) == 3
    there.store.client.zadd(there.store.keys.firings(), {"e1": 0})
    assert there.store.run_script("tick", "schedules")[3] == [b"*e1"]
