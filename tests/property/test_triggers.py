"""Triggers: which flows an event is for is the same in the script and in plain Python, whatever they match and whoever is
paused; and each of them is started once, in whatever order and however often somebody tries."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.triggers import Trigger
from nbflow.store.connect import Store
from tests.contract.test_triggers import Range
from tests.leaks import leaks
from tests.property.profiles import examples
from tests.property.test_waits import MATCHES, PAYLOADS

TRIGGERS = st.builds(
    lambda name, topic, match: Trigger(name, event=topic, match=match),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["a", "b"]),
    MATCHES,
)
ACTS = st.one_of(
    st.tuples(st.just("on"), TRIGGERS, st.sampled_from(["f", "g"])),
    st.tuples(st.just("off"), st.sampled_from(["one", "two"]), st.sampled_from(["f", "g", ""])),
    st.tuples(st.just("pause"), st.sampled_from(["one", "two"]), st.booleans()),
    st.tuples(st.just("emit"), st.sampled_from(["a", "b"]), PAYLOADS),
    st.tuples(st.just("pull"), st.integers(0, 7), st.just(None)),
)


class Model:
    """What the scripts should do."""

    def __init__(self) -> None:
        self.triggers: dict[str, Trigger] = {}
        self.flows: dict[str, set[str]] = {}
        self.paused: set[str] = set()
        self.open: list[tuple[str, str, str]] = []

    def on(self, trigger: Trigger, flow: str) -> None:
        self.triggers[trigger.name] = trigger
        self.flows.setdefault(trigger.name, set()).add(flow)

    def off(self, name: str, flow: str) -> None:
        left = self.flows.get(name, set()) - ({flow} if flow else {"f", "g"})
        self.flows[name] = left
        if not left:
            self.triggers.pop(name, None)
            self.paused.discard(name)

    def emit(self, event: str, topic: str, payload: Any) -> None:
        for name in sorted(self.triggers):
            trigger = self.triggers[name]
            if trigger.event == topic and name not in self.paused and trigger.wants(payload):
                self.open += [(event, name, flow) for flow in sorted(self.flows[name])]


@examples(60)
@given(st.lists(ACTS, max_size=14))
def test_each_flow_that_an_event_is_for_is_started_once(valkey_store: Store, acts: list[Any]):
    valkey_store.client.flushall()
    there, model, started = Range(valkey_store), Model(), list[str]()
    for number, (act, what, more) in enumerate(acts):
        if act == "on":
            model.on(what, more)
            there.declare(what.name, more, source=what.source, match=what.match_text, record=f"{what}")
        elif act == "off":
            model.off(what, more)
            valkey_store.run_script("untrigger", trigger=what, flow=more)
        elif act == "pause":
            known = valkey_store.run_script("mute", trigger=what, paused=int(more))
            assert known == (what in model.triggers)
            if known:
                (model.paused.add if more else model.paused.discard)(what)
        elif act == "emit":
            before = len(model.open)
            model.emit(f"e{number}", what, json.loads(json.dumps(more)))
            assert there.emit(more, f"e{number}", what) == len(model.open) - before
        elif model.open:
            event, name, flow = model.open.pop(what % len(model.open))
            run = f"r{number}"
            is_on = flow in model.flows.get(name, ())
            assert there.pull(run, flow, event, name, key="")[0] == (b"OK" if is_on else b"GONE")
            assert there.pull(f"{run}-again", flow, event, name, key="") == [b"DONE"]
            started += [run] if is_on else []
    found = {(event, *pair.split(" ")) for event in {one[0] for one in model.open} for pair in there.open(event)}
    assert found == set(model.open)
    assert sorted(valkey_store.text.zrange(valkey_store.keys.runs("running"), 0, -1)) == sorted(started)
    assert leaks(valkey_store) == []
