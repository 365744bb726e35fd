"""Triggers without a server: deliveries and their signatures, keys, and flows that one fires in a trial."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nbflow import Context, Flow, Signed, Trigger, received
from nbflow.errors import CommandRefused, DeliveryRefused, InputInvalid, SignatureMismatch
from nbflow.model.deliveries import opened
from nbflow.model.signing import Signer
from nbflow.model.triggered import Triggered, read_triggered
from nbflow.model.triggers import Firing, Subscription
from nbflow.model.triggers import Trigger as Told
from tests.bad_input import refused

NOW = 1_800_000_000
SECRET = b"hush"
BODY = b'{"a": 1}'


def headers(signed: Signed, body: bytes = BODY, at: str = str(NOW), name: str = "") -> dict[str, str]:
    named = {"idempotency-KEY": name} if name else {}
    return {signed.header: signed.signature(SECRET, body, at), "X-Timestamp": at, **named}


# -- deliveries ---------------------------------------------------------------------------------------------------------


def test_a_delivery_is_opened_with_what_its_sender_calls_it():
    signed = Signed("S")
    assert opened(signed, SECRET, BODY, headers(signed), now_s=NOW) == ({"a": 1}, "")
    named = headers(signed, name="d-7")
    assert opened(signed, SECRET, BODY, named, now_s=NOW + 299) == ({"a": 1}, "d-7")
    assert opened(signed, SECRET, b" ", headers(signed, b" "), now_s=NOW) == (None, "")


def test_some_senders_sign_the_body_alone():
    signed = Signed("S", header="X-Hub-Signature-256", timestamp=None, idempotency="X-GitHub-Delivery")
    given = {"x-hub-signature-256": signed.signature(SECRET, BODY), "x-github-delivery": "g"}
    assert opened(signed, SECRET, BODY, given, now_s=0) == ({"a": 1}, "g")
    bare = {"X-Hub-Signature-256": signed.signature(SECRET, BODY).partition("=")[2].upper()}
    assert opened(signed, SECRET, BODY, bare, now_s=0) == ({"a": 1}, "")


@pytest.mark.parametrize(
    "change", [{"X-Signature-256": ""}, {"X-Signature-256": "sha256=é"}, {"X-Timestamp": str(NOW + 1)}]
)
def test_what_is_not_signed_is_not_read(change: dict[str, str]):
    signed = Signed("S")
    with refused(DeliveryRefused, "not signed with the secret 'S'", "X-Signature-256"):
        opened(signed, SECRET, BODY, headers(signed) | change, now_s=NOW)
    with refused(DeliveryRefused, "not signed"):
        opened(signed, b"other", BODY, headers(signed), now_s=NOW)
    with refused(DeliveryRefused, "not signed"):
        opened(signed, SECRET, b"{", headers(signed), now_s=NOW)


@pytest.mark.parametrize("at", [str(NOW - 301), str(NOW + 301), "soon", "nan"])
def test_what_was_signed_for_another_time_is_refused(at: str):
    signed = Signed("S", window=timedelta(minutes=5))
    with refused(DeliveryRefused, "is not of now", "at most 300 s old"):
        opened(signed, SECRET, BODY, headers(signed, at=at), now_s=NOW)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 60_000, "is no JSON"),
        (b"1" * 70_000, "longer than 64 KiB"),
    ],
)
def test_what_is_no_document_is_refused(body: bytes, said: str):
    signed = Signed("S")
    with refused(DeliveryRefused, said):
        opened(signed, SECRET, body, headers(signed, body), now_s=NOW)


# -- records and keys ---------------------------------------------------------------------------------------------------


def test_a_trigger_comes_back_from_its_record_and_from_no_other():
    signer = Signer(b"s")
    for told in (
        Trigger("t"),
        Trigger("t", event="a.b", match={"a.b": None, "c": 1.5, "d": "x", "e": True}, key="a"),
        Trigger("t", webhook=Signed("S", timestamp=None, idempotency=None, window="1h")),
    ):
        assert Told.verified(told.signed(signer), "t", signer) == told
        for record, name in ((told.signed(Signer(b"o")), "t"), (told.signed(signer), "u"), ("", "t")):
            with refused(SignatureMismatch, f"The trigger {name!r}"):
                Told.verified(record, name, signer)
    subscription = Subscription("t", "f", True, '{"a":1}', {"b": ""}, {"user": "u"})
    assert Subscription.verified(subscription.signed(signer), "t", "f", signer) == subscription
    with refused(SignatureMismatch, "flow 'g'"):
        Subscription.verified(subscription.signed(signer), "t", "g", signer)


@pytest.mark.parametrize(
    ("payload", "key", "expected"),
    [
        ({"id": 7}, "", "7"),
        ({"id": "7"}, "", "7"),
        ({"id": [1, {"b": 2, "a": 1}]}, "", '[1,{"a":1,"b":2}]'),
        ({"id": None}, "", "null"),
        ({"id": ""}, "", "e1"),
        ({}, "", "e1"),
        (None, "", "e1"),
        ({"id": 7}, "delivery", "delivery"),
    ],
)
def test_the_key_of_a_run_is_that_of_the_payload_else_of_the_event(payload: Any, key: str, expected: str):
    firing = Firing("e1", "t", json.dumps(payload), key)
    assert Trigger("paid", event="t", key="id").run_key(firing) == f"trigger:paid@{expected}"


def test_a_key_is_never_long():
    firing = Firing("e1", "t", json.dumps({"id": "x" * 1000}))
    assert len(Trigger("t" * 100, event="t", key="id").run_key(firing)) <= 200


def test_what_started_a_run_is_told_as_it_was():
    for told in (
        Triggered("schedule", "nightly", scheduled_at=datetime(2026, 11, 24, 2, tzinfo=UTC)),
        Triggered("event", "paid", topic="a.b", event="e1", at=datetime(2026, 11, 24, 2, tzinfo=UTC)),
    ):
        assert read_triggered(told.text) == told
    assert read_triggered("") is None


# -- in process ---------------------------------------------------------------------------------------------------------


def flow_of_orders() -> Flow:
    flow = Flow("orders")

    @flow.entry
    def bill(order: dict, ctx: Context, note: str = "") -> Any:  # pyright: ignore[reportMissingTypeArgument]
        return order, note, ctx.trigger

    return flow


def test_a_trigger_fires_a_flow_in_a_trial():
    paid = Trigger("paid", event="order.paid", match={"order.id": 7})
    trial = flow_of_orders().trial(start=datetime(2026, 11, 24, tzinfo=UTC))
    run = trial.fire(paid, {"order": {"id": 7}, "more": 1})
    order, note, trigger = run.result
    assert (order, note) == ({"id": 7}, "")
    assert trigger == run.trigger
    assert (trigger.type, trigger.name, trigger.topic) == ("event", "paid", "order.paid")
    assert trigger.at == datetime(2026, 11, 24, tzinfo=UTC)
    mapped = {
        "order": received(),
        "note": received("order.note"),
    }
    assert trial.fire(paid, {"order": {"id": 7, "note": "n"}}, input=mapped).result[:2] == (
        {"order": {"id": 7, "note": "n"}},
        "n",
    )
    with refused(CommandRefused, "does not match trigger 'paid'"):
        trial.fire(paid, {"order": {"id": 8}})
    with refused(InputInvalid, "has no input 'ordr'"):
        trial.fire(paid, {"order": {"id": 7}}, input={"ordr": received()})


def test_a_schedule_starts_a_flow_in_a_trial():
    occurrence = Triggered("schedule", "nightly", scheduled_at=datetime(2026, 11, 24, 2, tzinfo=UTC))
    run = flow_of_orders().trial().fire(occurrence, {"order": {}})
    assert run.result == ({}, "", occurrence)
    assert flow_of_orders().test(order={}).trigger is None


def test_what_goes_on_from_it_in_a_trial_was_started_by_the_same():
    occurrence = Triggered("schedule", "nightly", scheduled_at=datetime(2026, 11, 24, 2, tzinfo=UTC))
    run = flow_of_orders().trial().fire(occurrence, {"order": {}})
    again = run.restart()
    for one in (again, again.fork(at=next(iter(again.follow())).id), run.resume()):
        assert (one.trigger, one.result[2]) == (occurrence, occurrence)
