"""The state of a run: the scripts and the plain model that runs in process use answer the same, keep the same and tell the
same, whatever is set, swapped, added and deleted, and whatever time is over in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.store.connect import Store
from nbflow.worker.kept import RunState
from nbflow.worker.state import Change
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Machine
from tests.property.profiles import examples

pytestmark = pytest.mark.timeout(6 * 3600)  # of a proof; a usual run takes seconds

KEYS = st.sampled_from(["n", "a b", 'q"', "ü"])
TEXTS = st.sampled_from(["1", "-3", "2.5", "0.1", '"x"', "[1,{}]", "null", "true"])
NUMBERS = st.sampled_from(["1", "-2", "0.25", "10", str(2**62)])
STAYS = st.sampled_from(["", "", "as", "end", "3600000", "7200000"])
CHANGES = st.one_of(
    st.builds(Change, st.just("set"), KEYS, TEXTS, STAYS.filter(lambda stays: stays != "as")),
    st.builds(Change, st.just("swap"), KEYS, TEXTS, STAYS, st.one_of(st.just(""), TEXTS)),
    st.builds(Change, st.just("incr"), KEYS, NUMBERS, st.sampled_from(["", "as", "end"])),
    st.builds(Change, st.just("delete"), KEYS),
)


def _is_exact(moves: list[Any]) -> bool:
    """Of a number with a fraction a server keeps 64 bits, the model all: of one so large there is no room for both."""
    texts = {text for move in moves if isinstance(move, Change) for text in (move.text, move.was)}
    return str(2**62) not in texts or not any("." in text for text in texts)


MOVES = st.lists(st.one_of(CHANGES, KEYS.map(lambda key: ("is over", key)), st.just("tick")), max_size=25).filter(
    _is_exact
)


def _told(data: dict[str, Any]) -> dict[str, Any]:
    """The rest of a time is not the same on two clocks."""
    return {name: value for name, value in data.items() if name != "ttl"} | {"has_ttl": "ttl" in data}


class _Both:
    def __init__(self, store: Store) -> None:
        store.client.flushall()
        self.store, self.machine = store, Machine(store, chain(1))
        self.machine.birth("w")
        self.machine.launch()
        task = self.machine.claim()
        assert task is not None
        self.task, self.nonce = task, 0
        self.told: list[dict[str, Any]] = []
        self.model = RunState({}, lambda: 1000, self.told.append)

    def change(self, change: Change) -> None:
        self.nonce += 1
        task = self.task
        word, *rest = self.store.run_script(
            "state", worker=task.worker, job=task.job, lease=task.lease, run="r1", task=task.task, attempt=1,
            operation=change.operation, key=change.key, value=change.text, stays=change.stays, was=change.was,
            nonce=self.nonce,
        )  # fmt: skip
        assert (word.decode(), rest[0].decode()) == self.model.change(change, self.told.append)
        fades: Any = self.store.text.zrange("nbflow:fades:r1", 0, -1, withscores=True)
        for key, due in fades:
            if self.model._fades.get(key, 1) != 1:  # the server's clock went on: what ends together goes in its order
                self.model._fades[key] = due

    def is_over(self, key: str) -> None:
        if key in self.model._fades:
            self.model._fades[key] = 1
            self.store.client.zadd("nbflow:fades:r1", {key: 1})
            self.store.client.zadd(self.store.keys.timers(), {"fade r1": 1})

    def tick(self) -> None:
        self.store.run_script("tick")
        self.model.fade()

    def agree(self) -> None:
        for key in (None, "n", 'q"'):
            flat = [part.decode() for part in self.store.run_script("recall", run="r1", key=key or "")]
            over = {name for name, due in self.model._fades.items() if due <= 1000}
            kept = {name: text for name, text in self.model._values.items() if key in (None, name) and name not in over}
            assert dict(zip(flat[::2], flat[1::2], strict=True)) == kept
        events = [_told(event.data) for event in self.machine.events() if event.type == "state"]
        assert events == [_told(data) for data in self.told]


@examples(60)
@given(moves=MOVES)
def test_scripts_and_model_keep_and_tell_the_same(store: Store, moves: list[Any]) -> None:
    both = _Both(store)
    for move in moves:
        if isinstance(move, Change):
            both.change(move)
        elif move == "tick":
            both.tick()
        else:
            both.is_over(move[1])
        both.agree()
    both.machine.settle(both.task)
    both.model.end()
    both.agree()
    assert leaks(store) == []
    left = store.text.hgetall(store.keys.state("r1"))
    assert {key: json.loads(text) for key, text in left.items()} == {  # type: ignore[union-attr]
        key: json.loads(text) for key, text in both.model._values.items()
    }
