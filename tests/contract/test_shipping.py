"""The tape arrives whole and once: while a task runs, before it is settled, and when its worker died."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbflow.errors import ServerUnreachable
from nbflow.store.connect import Store
from nbflow.store.wire import Wire, connect
from nbflow.worker.shipping import MAX_PIECE, Shipper, Shipping, append_command, last_words
from nbflow.worker.slots import Slots
from nbflow.worker.tape import MAX_LINES, Tape
from tests.graphs import chain
from tests.machine import Machine
from tests.site import wait_until


class Ship:
    """A task that runs, its tape and what carries it."""

    def __init__(self, store: Store) -> None:
        self.machine = Machine(store, chain(2))
        self.machine.birth("w")
        self.machine.launch()
        task = self.machine.claim()
        assert task is not None
        self.store, self.tape, self.slots = store, Tape(), Slots(n=1)
        self.script = store.scripts["append"]
        self.whose = Shipping("w", task.job, task.lease, task.run, task.task, 1)
        self.shipper = Shipper(self.tape, self.script, self.slots, 0)
        self.shipper.begin(self.whose)
        self.wire = self.open()

    def open(self) -> Wire:
        wire = connect(self.store.url)
        wire.call("SCRIPT", "LOAD", self.script.text)
        return wire

    def messages(self) -> list[str]:
        return [event.data.get("message", "") for event in self.machine.events() if event.type == "log"]

    def last(self, ask: Callable[..., Any] | None = None) -> list[str]:
        """Its worker died."""
        shipped = self.slots.shipped(0)
        last_words(ask or self.wire.call, self.script, self.store.keys, worker="w", tape=self.tape, shipped=shipped)
        return self.messages()


@pytest.fixture
def ship(store: Store) -> Iterator[Ship]:
    made = Ship(store)
    yield made
    made.shipper.end(made.wire)  # its thread, if there is one, looks at this tape no more
    made.wire.close()
    os.close(made.tape.fd)


def test_what_a_process_writes_ends_nothing(ship: Ship) -> None:
    os.write(ship.tape.fd, b'\x1e["flow.completed",{}]\n')
    ship.shipper.end(ship.wire)
    assert ship.messages() == ['\x1e["flow.completed",{}]']
    assert not [event for event in ship.machine.events() if event.type == "flow.completed"]


@pytest.mark.parametrize(
    "before", [0, 1, MAX_PIECE - 300, MAX_PIECE - 17, MAX_PIECE - 8, MAX_PIECE - 1, 2 * MAX_PIECE + 5]
)
def test_a_record_after_a_long_open_line_arrives_whole(ship: Ship, before: int) -> None:
    """Law: wherever a piece of the tape ends, a record is read whole."""
    os.write(ship.tape.fd, b"x" * before)
    ship.tape.record("log", {"message": "the record", "fields": {"n": list(range(100))}})
    ship.tape.record("artifact", {"name": "large", "ref": "y" * (3 * MAX_PIECE)})
    ship.tape.record("log", {"message": "after"})
    ship.shipper.end(ship.wire)
    assert sum(message.count("x") for message in ship.messages()) == before
    assert [message for message in ship.messages() if "x" not in message] == ["the record", "after"]
    (kept,) = [event for event in ship.machine.events() if event.type == "artifact"]
    assert len(kept.data["ref"]) == 3 * MAX_PIECE


def test_the_last_words_are_the_last(ship: Ship) -> None:
    """Law: of more than can be taken, the end is taken, and that there was more is said."""
    for i in range(5 * MAX_LINES):
        os.write(ship.tape.fd, b"%d\n" % i)
    first, *rest = ship.last()
    assert rest == [str(i) for i in range(4 * MAX_LINES, 5 * MAX_LINES)]
    assert "some is lost" in first


def test_of_more_than_a_piece_the_last_words_begin_with_a_whole_line(ship: Ship) -> None:
    for i in range(100):
        ship.tape.record("log", {"message": f"{i:03}" + "z" * 8000})
    first, *rest = ship.last()
    assert "some is lost" in first
    assert [message[:3] for message in rest] == [f"{i:03}" for i in range(100 - len(rest), 100)]
    assert len(rest) > 25


def test_last_words_go_on_where_the_server_is(ship: Ship) -> None:
    """The worker died after its append and before its note of it."""
    ship.tape.record("log", {"message": "arrived"})
    at = ship.tape.size()
    ship.wire.call(*append_command(ship.script, ship.whose, (0, at), [("log", {"message": "arrived"})]))
    ship.tape.record("log", {"message": "the last"})
    assert ship.slots.shipped(0) == 0
    assert ship.last() == ["arrived", "the last"]
    assert ship.last() == ["arrived", "the last"], "said again, nothing is written twice"


def test_output_arrives_although_the_server_was_away_at_first(ship: Ship) -> None:
    tries: list[int] = []

    def open_wire() -> Wire:
        tries.append(1)
        if len(tries) == 1:
            raise ServerUnreachable("away", hint="")
        return ship.open()

    ship.shipper.start(open_wire)
    ship.tape.record("log", {"message": "patience"})
    wait_until(lambda: ship.messages() == ["patience"], what=ship.messages)
    assert len(tries) == 2


def test_a_fork_carries_nothing_and_what_it_writes_is_carried(ship: Ship) -> None:
    begun, let = threading.Event(), threading.Event()

    def hold() -> None:
        with ship.shipper._lock:
            begun.set()
            let.wait()

    ship.shipper.start(ship.open)
    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:  # as it was copied, the lock is held by a thread that is not here
        failed = 1
        try:
            ship.tape.record("log", {"message": "from the fork"})
            ship.shipper.begin(ship.whose)
            ship.shipper.end(ship.wire)
            failed = 0
        finally:
            os._exit(failed)
    assert os.waitpid(child, 0)[1] == 0
    assert ship.messages() == []
    let.set()
    thread.join()
    wait_until(lambda: ship.messages() == ["from the fork"], what=ship.messages)
    ship.shipper.end(ship.wire)
