"""What cannot be a trigger, an input or a payload of one; and what somebody without the secret wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nbflow as nf
from nbflow import Signed, Trigger, received
from nbflow.app import Nbflow
from nbflow.errors import (
    DefinitionError,
    InputInvalid,
    PayloadError,
)
from nbflow.firing import fire
from nbflow.flow import LaunchDisabled, launches_disabled
from tests.bad_input import nothing_written, refused
from tests.triggered import PAID, billing, inputs, order

# -- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "no name"}, "cannot be called 'no name'"),
        ({"event": "no topic"}, "names no topic"),
        ({"event": 7}, "names no topic"),
        ({"event": "t", "match": "paid"}, "is no dict"),
        ({"event": "t", "match": {"a..b": 1}}, "no dotted field"),
        ({"event": "t", "match": {"a": [1]}}, "cannot be compared"),
        ({"event": "t", "match": {"a": float("nan")}}, "cannot be compared"),
        ({"event": "t", "match": {"a": received("b")}}, "there is none yet"),
        ({"event": "t", "key": ""}, "no dotted field"),
        ({"event": "t", "webhook": Signed("S")}, "by an event or by a webhook"),
        ({"webhook": "S"}, "does not say how its deliveries are signed"),
    ],
)
def test_what_cannot_be_a_trigger_is_refused(options: dict[str, Any], said: str):
    with refused(DefinitionError, said):
        Trigger(options.pop("name", "t"), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"secret": ""}, "is no name of a secret"),
        ({"header": "two words"}, "names no header"),
        ({"header": None}, "names no header"),
        ({"timestamp": ""}, "names no header"),
        ({"window": 0}, "is not possible"),
        ({"window": "2d"}, "is not possible"),
        ({"window": -1}, "-1"),
    ],
)
def test_what_cannot_be_signed_so_is_refused(options: dict[str, Any], said: str):
    with refused(DefinitionError, said):
        Signed(**({"secret": "S"} | options))


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ({"ordr": received()}, InputInvalid, "Did you mean 'order'"),
        ({"year": 7}, InputInvalid, "needs the input 'order'"),
        ([1], DefinitionError, "no values by name"),
        ({"order": {}, "year": "soon"}, InputInvalid, "'soon'"),
    ],
)
def test_an_input_that_cannot_be_is_refused_at_once(alone: Nbflow, values: Any, kind: Any, said: str):
    with nothing_written(alone), refused(kind, said):
        billing().on(PAID, input=values)


def test_what_is_no_trigger_is_refused(alone: Nbflow):
    what: Any = "order.paid"
    with nothing_written(alone), refused(DefinitionError, "'order.paid' is no trigger"):
        billing().on(what)


def test_a_payload_that_cannot_travel_fires_nothing(alone: Nbflow):
    on = billing().on(Trigger("hand"))
    with nothing_written(alone):
        for payload in (object(), "x" * 70_000, float):
            with pytest.raises(PayloadError):
                on.fire(payload)
            with pytest.raises(PayloadError):
                nf.emit("order.paid", payload)


def test_where_flows_are_only_read_nothing_is_declared_and_nothing_told(alone: Nbflow):
    with launches_disabled(), pytest.raises(LaunchDisabled):
        billing().on(PAID)
    billing().on(PAID)
    with launches_disabled(), pytest.raises(LaunchDisabled):
        nf.emit("order.paid", order(1))
    assert inputs(alone) == []


# -- trust --------------------------------------------------------------------------------------------------------------


def test_what_was_not_signed_starts_nothing(alone: Nbflow, capsys: pytest.CaptureFixture[str]):
    billing().on(PAID)
    text = json.dumps(order(1))
    alone.store.run_script("emit", topic="order.paid", payload=text, nonce="forged", sig="0" * 64)
    fire(alone, ["*forged"])
    assert "trigger 'paid' of flow 'bills': The event forged was not signed" in capsys.readouterr().err
    assert inputs(alone) == []


def test_a_trigger_that_was_changed_in_the_server_starts_nothing(alone: Nbflow):
    billing().on(PAID)
    key = alone.store.keys.trigger("paid")
    for field in ("record", "on bills"):
        before: Any = alone.store.text.hget(key, field)
        alone.store.client.hset(key, field, before.replace("paid", "open"))
        nf.emit("order.paid", order(1))
        assert inputs(alone) == []
        alone.store.client.hset(key, field, before)
    alone.store.client.hset(key, "match", "[]")  # what the script compares is not signed: the record is asked again
    nf.emit("order.paid", order(2, "open"))
    assert inputs(alone) == []
