"""Triggers without workers: declared, fired by events, by hand and by deliveries, by any number of processes."""

from __future__ import annotations

import json
import time

import pytest

import nbflow as nf
from nbflow import Flow, Signed, Trigger, received
from nbflow.app import Nbflow
from nbflow.errors import (
    CommandRefused,
    DeliveryRefused,
    InputInvalid,
    UnknownFlow,
    UnknownSecret,
    UnknownTrigger,
)
from nbflow.triggering import Subscribed, subscribe
from tests.bad_input import nothing_written, refused
from tests.contract.everything import everything
from tests.leaks import leaks
from tests.triggered import PAID, billing, inputs, order, row

# -- declaring ----------------------------------------------------------------------------------------------------------


def test_an_event_starts_the_flows_that_are_on_it(alone: Nbflow):
    on = billing().on(PAID)
    billing("letters").on(Trigger("all", event="order.paid"))
    assert alone.published.newest("bills").number == 1
    assert on.last is None
    assert nf.emit("order.paid", order(7, receipt="r-7", currency="EUR")) == 0
    assert nf.emit("order.paid", order(8, "open")) == 0
    assert nf.emit("order.refused", order(9)) == 0
    assert inputs(alone) == [{"order": {"id": 7, "status": "paid"}, "receipt": "r-7", "year": 2000}]
    assert [one["order"]["id"] for one in inputs(alone, "letters")] == [7, 8]
    assert on.last is not None
    assert (on.last.version, on.last.view.start["by"]) == (1, alone.run(on.last.id).view.start["by"])
    assert on.last.trigger is not None
    assert (on.last.trigger.type, on.last.trigger.name, on.last.trigger.topic) == ("event", "paid", "order.paid")
    assert abs(on.last.trigger.at.timestamp() - time.time()) < 3600  # pyright: ignore[reportOptionalMemberAccess]
    assert list(alone.runs("bills", tag="trigger:paid")["id"]) == [on.last.id]
    assert leaks(alone.store) == []


def test_a_large_fixed_input_is_an_artifact_of_the_flow_on_it_and_of_its_runs(alone: Nbflow):
    """Law: it lives as long as anybody refers to it: a flow on a trigger as it is declared now, and each run."""
    flow, other, store = billing(), billing("letters"), alone.store

    def on(flow: Flow, size: int) -> Subscribed:
        return flow.on(PAID, input={"receipt": "x" * size, "order": received("order")})

    def kept() -> int:
        assert leaks(store) == []
        return len(list(store.client.scan_iter("nbflow:artifact:*")))

    for size in (70_000, 70_000, 80_000):
        on(flow, size)
        assert kept() == 1
    on(other, 80_000)
    assert kept() == 1, "the same bytes"
    nf.emit("order.paid", order(7))
    runs = [alone.run(row.id) for row in alone.index.runs()]
    assert [len(run.input["receipt"]) for run in runs] == [80_000, 80_000]
    on(flow, 90_000)
    on(other, 10)
    ours = kept()
    alone.subscribed.remove("paid")
    assert (ours, kept()) == (2, 1), "both runs have the same input"
    for run in runs:
        assert len(run.input["receipt"]) == 80_000
        run.cancel().delete()
    assert kept() == 0


def test_the_table_of_triggers_says_what_became_of_them(alone: Nbflow):
    assert len(nf.triggers()) == 0
    on = billing().on(PAID)
    for number in (1, 1, 2):
        nf.emit("order.paid", order(number))
    nf.emit("order.paid", {"order": {"id": 3, "status": "paid"}, "year": "soon"})
    on.pause()
    nf.emit("order.paid", order(4))
    assert on.is_paused
    told = row(alone)
    assert {name: told[name] for name in ("name", "kind", "topic", "match", "key", "paused", "flow")} == {
        "name": "paid", "kind": "event", "topic": "order.paid", "match": {"order.status": "paid"}, "key": "order.id",
        "paused": True, "flow": "bills",
    }  # fmt: skip
    assert (told["started"], told["repeated"], told["failed"], told["ignored"]) == (2, 1, 1, 1)
    assert told["last_run"] == on.last.id  # pyright: ignore[reportOptionalMemberAccess]
    assert "'soon', which entry 'bill' does not take" in told["error"]
    on.resume()
    nf.emit("order.paid", order(5))
    assert len(inputs(alone)) == 3
    assert len(nf.triggers("other")) == 0
    assert leaks(alone.store) == []


def test_running_the_cell_again_changes_nothing(alone: Nbflow):
    billing().on(PAID, input={"order": received("order"), "year": 2001})
    before = alone.store.text.hgetall(alone.store.keys.trigger("paid"))
    with nothing_written(alone):
        billing().on(PAID, input={"order": received("order"), "year": 2001})
    assert alone.store.text.hgetall(alone.store.keys.trigger("paid")) == before


def test_a_changed_cell_changes_the_trigger_of_that_name(alone: Nbflow):
    billing().on(PAID)
    billing("letters").on(PAID)
    billing().on(Trigger("paid", event="order.settled"), input={"order": received()})
    nf.emit("order.paid", order(1))
    nf.emit("order.settled", order(2))
    assert [one["order"] for one in inputs(alone)] == [order(2)]
    assert [one["order"] for one in inputs(alone, "letters")] == [order(2)["order"]]
    assert leaks(alone.store) == []


def test_an_input_may_be_made_of_fields_of_the_payload(alone: Nbflow):
    billing().on(
        Trigger("paid", event="order.paid"),
        input={"order": received(), "receipt": received("order.receipt"), "year": 1999},
    )
    nf.emit("order.paid", {"order": {"receipt": "r"}})
    nf.emit("order.paid", {"order": 1})  # no receipt: the parameter has a default
    assert inputs(alone) == [
        {"order": {"order": {"receipt": "r"}}, "receipt": "r", "year": 1999},
        {"order": {"order": 1}, "receipt": "none", "year": 1999},
    ]


def test_a_flow_of_one_value_takes_a_payload_that_is_no_dict(alone: Nbflow):
    flow = Flow("one")

    @flow.entry
    def take(numbers: list[int]) -> int:
        return sum(numbers)

    flow.on(Trigger("numbers", event="numbers"))
    nf.emit("numbers", [1, 2])
    nf.emit("numbers")
    assert inputs(alone, "one") == [{"numbers": [1, 2]}]
    assert "needs the input 'numbers'" in row(alone, "one")["error"]


def test_code_that_is_not_the_published_one_is_a_warning(alone: Nbflow):
    billing().on(PAID)
    with pytest.warns(UserWarning, match=r"starts version 1 .* flow\.publish\(\)"):
        billing(n=2).on(PAID)
    billing(n=2).publish()
    nf.emit("order.paid", order(1))
    assert alone.run(alone.index.runs(flow="bills")[0].id).version == 2


def test_a_trigger_can_be_declared_by_the_name_of_its_flow(alone: Nbflow):
    billing().publish()
    subscribe(alone, "bills", PAID)
    nf.emit("order.paid", order(1))
    assert len(inputs(alone)) == 1
    with refused(UnknownFlow, "No flow is published as 'bill'", "Did you mean 'bills'"):
        subscribe(alone, "bill", PAID)


def test_a_published_flow_on_a_trigger_stays_published(alone: Nbflow):
    on = billing().on(PAID)
    with refused(CommandRefused, "started by the trigger paid"):
        alone.published.unpublish("bills")
    on.remove()
    assert alone.published.unpublish("bills") == 1
    assert leaks(alone.store) == []
    for act in (on.remove, on.pause, lambda: on.is_paused, lambda: on.last, on.fire):
        with refused(UnknownTrigger, "There is no trigger 'paid'"):
            act()


def test_a_trigger_starts_one_flow_no_more_and_the_others_still(alone: Nbflow):
    on = billing().on(PAID)
    other = billing("letters").on(PAID)
    on.remove()
    nf.emit("order.paid", order(1))
    assert (len(inputs(alone)), len(inputs(alone, "letters"))) == (0, 1)
    with refused(UnknownTrigger, "does not start the flow 'bills'"):
        on.remove()
    with refused(UnknownTrigger, "does not start the flow 'bills'"):
        on.last  # noqa: B018 - it is asked for
    other.remove()
    assert len(nf.triggers()) == 0
    assert leaks(alone.store) == []


# -- by hand and by deliveries --------------------------------------------------------------------------------------------


def test_a_trigger_is_fired_by_hand(alone: Nbflow):
    on = billing().on(Trigger("rebuild", match={"order.status": "paid"}))
    billing("letters").on(Trigger("rebuild", match={"order.status": "paid"}))
    runs = on.fire(order(1))
    assert [run.flow for run in runs] == ["bills", "letters"]
    assert runs[0].trigger is not None
    assert (runs[0].trigger.type, runs[0].trigger.topic) == ("manual", None)
    assert on.fire(order(1, "open")) == []
    assert len(on.fire(order(1), key="k")) == 2
    assert on.fire(order(2), key="k") == []
    before = everything(alone.store)
    with refused(InputInvalid, "'soon'"):
        on.fire(order(1, year="soon"))
    assert everything(alone.store) == before
    on.pause()
    with refused(CommandRefused, "'rebuild' is paused"):
        on.fire(order(1))
    with refused(CommandRefused, "fired by the topic 'order.paid'", "nbflow.emit"):
        billing().on(PAID).fire(order(1))
    assert leaks(alone.store) == []


def test_a_delivery_starts_what_is_on_its_webhook(alone: Nbflow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOP_SECRET", "hush")
    signed = Signed("SHOP_SECRET")
    billing().on(Trigger("shop", webhook=signed, match={"order.status": "paid"}))
    now = str(int(time.time()))
    body = json.dumps(order(1)).encode()
    headers = {
        "x-signature-256": signed.signature(b"hush", body, now), "X-TIMESTAMP": now, "Idempotency-Key": "d-1",
    }  # fmt: skip
    (run,) = alone.subscribed.receive("shop", body, headers)
    assert alone.run(run).trigger.type == "webhook"  # pyright: ignore[reportOptionalMemberAccess]
    assert alone.subscribed.receive("shop", body, headers) == []
    assert (row(alone)["secret"], row(alone)["repeated"], len(inputs(alone))) == ("SHOP_SECRET", 1, 1)
    before = everything(alone.store)
    for wrong in ({"x-signature-256": "sha256=00"}, {"X-TIMESTAMP": "1"}, {"X-TIMESTAMP": ""}):
        with refused(DeliveryRefused, "not signed with the secret 'SHOP_SECRET'"):
            alone.subscribed.receive("shop", body, headers | wrong)
    assert everything(alone.store) == before
    monkeypatch.delenv("SHOP_SECRET")
    with refused(UnknownSecret, "There is no secret 'SHOP_SECRET' here"):
        alone.subscribed.receive("shop", body, headers)
    billing().on(PAID)
    with refused(CommandRefused, "'paid' is no webhook"):
        alone.subscribed.receive("paid", body, headers)
    assert "hush" not in str(alone.store.text.hgetall(alone.store.keys.trigger("shop")))
