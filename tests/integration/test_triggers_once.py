"""Each flow on a trigger is started once for each event, whoever looks after it and whoever dies."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

import nbflow as nf
from nbflow import Trigger
from nbflow.app import Nbflow
from nbflow.engine.triggers import KEPT_MS
from nbflow.firing import fire
from tests.killed import Killed, stopped_at
from tests.leaks import leaks
from tests.site import SECRET
from tests.triggered import PAID, billing, inputs, left, order, row

# -- exactly once -------------------------------------------------------------------------------------------------------


def test_however_many_processes_see_an_event_each_flow_is_started_once(alone: Nbflow):
    billing(long=True).on(Trigger("paid", event="order.paid"))
    billing("letters").on(Trigger("paid", event="order.paid"))
    text = json.dumps(order(1))
    events = [f"{number:032x}" for number in range(10)]
    for event in events:
        sig = alone.signer.sign("event", event, "order.paid", text, "")
        alone.store.run_script("emit", topic="order.paid", payload=text, nonce=event, sig=sig)
    others = [Nbflow(alone.store.url, secret=SECRET, project=alone.project.root) for _ in range(6)]
    found: list[list[Any]] = [[] for _ in others]
    gate = threading.Barrier(len(others))

    def watch(n: int) -> None:
        subscribed = others[n].subscribed
        gate.wait()
        found[n] = [one.run for event in events for one in subscribed.fire(event) if one.run is not None]

    threads = [threading.Thread(target=watch, args=(n,)) for n in range(len(others))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    runs = [run for runs in found for run in runs]
    assert len(runs) == len(set(runs)) == 20
    assert (len(inputs(alone)), len(inputs(alone, "letters"))) == (10, 10)
    assert left(alone) == []
    assert leaks(alone.store) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(4))
def test_who_emits_and_dies_loses_and_doubles_nothing(alone: Nbflow, call: int, when: str):
    """Its calls are three: the event, the graph of the run, which is long here, and the start. A fourth never comes."""
    billing(long=True).on(Trigger("paid", event="order.paid"))
    with Nbflow(alone.store.url, secret=SECRET, project=alone.project.root) as other:
        other.subscribed  # noqa: B018 - what connects has connected
        has_stopped = stopped_at(other.store, call, when)
        try:
            other.emit("order.paid", order(1))
        except Killed:
            pass
        assert has_stopped() == (call < 3)
    for event in left(alone):
        fire(alone, [f"*{event}"])
    assert len(inputs(alone)) == (0 if (call, when) == (0, "before") else 1)
    assert left(alone) == []
    assert leaks(alone.store) == []


def test_what_cannot_be_started_here_is_left_to_others_and_not_for_ever(alone: Nbflow, monkeypatch: Any):
    """Here the code went just now; it could be a package that is missing, or a server that is full."""
    on = billing().on(PAID)
    alone.store.client.delete(alone.store.keys.plan(alone.published.newest("bills").plan))
    nf.emit("order.paid", order(1))
    (event,) = left(alone)
    assert alone.subscribed.fire(event)[0].error is not None
    assert left(alone) == [event]
    now = alone.published.now_ms
    monkeypatch.setattr(alone.published, "now_ms", lambda: now() + KEPT_MS + 1)
    alone.subscribed.fire(event)
    assert left(alone) == []
    assert "The newest version of 'bills' is not there" in row(alone)["error"]
    assert on.last is None
