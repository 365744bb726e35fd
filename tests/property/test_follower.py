"""The follower's protocol against a network that loses, doubles, delays and breaks."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nbflow.model.events import BOUNDED_TYPES, Event, id_key
from nbflow.store.log import Position
from nbflow.watch.seam import Reading, Seam

CONFIRMED = None
"""What a (re)subscribed connection says before anything else."""


@dataclass
class Streams:
    """A run's two streams with ids of one sequence, and pages of them as `RunLog.page` gives them."""

    events: list[Event] = field(default_factory=list[Event])

    def write(self, bounded: bool) -> Event:
        number = len(self.events) + 1
        event = Event(f"{number // 3}-{number % 3}", "log" if bounded else "state", "r", "f", "a", 1, {"n": number})
        self.events.append(event)
        return event

    def page(self, position: Position, size: int) -> tuple[list[Event], bool]:
        new = [event for event in self.events if not position.knows(event)]
        return new[:size], len(new) <= size


class AnyNetwork(RuleBasedStateMachine):
    """One follower of one run, while anything happens that can.

    The law: everything written comes out, once; in the order of its ids, unless the network itself swaps the messages of
    the two streams, and even then in the order of each stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self.streams = Streams()
        self.wire: list[Event | None] = []
        self.is_connected = False
        self.swapped = False
        self.given: list[Event] = []
        self.reading: Reading | None = None
        self.answer: tuple[list[Event], bool] | None = None

    @initialize(room=st.integers(1, 6), written=st.lists(st.booleans(), max_size=5), after=st.integers(0, 5))
    def begin(self, room: int, written: list[bool], after: int) -> None:
        for bounded in written:
            self.streams.write(bounded)
        self.missed = self.streams.events[: min(after, len(written))]
        last = self.missed[-1].id if self.missed else "0-0"
        self.seam = Seam(Position.after(last), room=room)

    @rule(bounded=st.booleans())
    def write(self, bounded: bool) -> None:
        event = self.streams.write(bounded)
        if self.is_connected:
            self.wire.append(event)

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        self.is_connected = True
        self.wire.append(CONFIRMED)

    @precondition(lambda self: self.is_connected)
    @rule(arrived=st.integers(0, 5))
    def lose_the_connection(self, arrived: int) -> None:
        """What is on the way is lost, from some message on."""
        self.is_connected = False
        del self.wire[arrived:]

    @precondition(lambda self: self.wire)
    @rule(many=st.integers(1, 8), times=st.integers(1, 2))
    def deliver(self, many: int, times: int) -> None:
        for message in self.wire[:many]:
            for _ in range(times):
                if isinstance(message, Event):
                    self.seam.heard(message)
                else:
                    self.seam.doubt()
        del self.wire[:many]

    @precondition(lambda self: len(self.wire) > 1)
    @rule(at=st.integers(0, 5))
    def swap_a_log_with_its_neighbour(self, at: int) -> None:
        pair = self.wire[at : at + 2]
        if len(pair) == 2 and None not in pair and len({event.type in BOUNDED_TYPES for event in pair if event}) == 2:
            self.wire[at : at + 2] = reversed(pair)
            self.swapped = True

    @precondition(lambda self: self.reading is None)
    @rule()
    def send_a_read(self) -> None:
        self.reading = self.seam.begin_reading()

    @precondition(lambda self: self.reading is not None and self.answer is None)
    @rule(size=st.integers(1, 4))
    def the_server_reads(self, size: int) -> None:
        assert self.reading is not None
        self.answer = self.streams.page(self.reading.position, size)

    @precondition(lambda self: self.answer is not None)
    @rule()
    def the_answer_comes(self) -> None:
        assert self.reading is not None
        assert self.answer is not None
        events, to_end = self.answer
        self.given += self.seam.have_read(self.reading, events, to_end=to_end)
        self.reading = self.answer = None

    @precondition(lambda self: self.reading is None)
    @rule()
    def take(self) -> None:
        self.given += self.seam.take()

    @rule()
    def doubt_for_good_measure(self) -> None:
        self.seam.doubt()

    @invariant()
    def nothing_comes_twice(self) -> None:
        assert len({event.id for event in self.given}) == len(self.given)

    @invariant()
    def each_stream_is_in_order_and_without_gap(self) -> None:
        """Also while it goes on: what was given out is a beginning of what was written."""
        for bounded in (True, False):
            given = [event.id for event in self.given if (event.type in BOUNDED_TYPES) is bounded]
            assert given == self._written(bounded)[: len(given)]

    @invariant()
    def both_are_in_order_if_the_network_keeps_it(self) -> None:
        if not self.swapped:
            keys = [id_key(event.id) for event in self.given]
            assert keys == sorted(keys)

    def teardown(self) -> None:
        """At rest everything has come out: after the last doubt (the safety read) nothing more is lost."""
        if not hasattr(self, "seam"):
            return
        self.seam.doubt()
        while self.seam.must_read:
            reading = self.seam.begin_reading()
            events, to_end = self.streams.page(reading.position, 3)
            self.given += self.seam.have_read(reading, events, to_end=to_end)
        self.given += self.seam.take()
        written = [event.id for event in self.streams.events if event not in self.missed]
        assert sorted(event.id for event in self.given) == sorted(written)
        self.nothing_comes_twice()
        self.both_are_in_order_if_the_network_keeps_it()

    def _written(self, bounded: bool) -> list[str]:
        return [
            event.id
            for event in self.streams.events
            if event not in self.missed and (event.type in BOUNDED_TYPES) is bounded
        ]


TestAnyNetwork = AnyNetwork.TestCase
TestAnyNetwork.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_a_follower_that_does_not_come_holds_no_more_than_its_room() -> None:
    """Law: a slow follower costs no memory, and is given a fresh read."""
    streams, seam = Streams(), Seam(Position(), room=10)
    reading = seam.begin_reading()
    seam.have_read(reading, [], to_end=True)
    for _ in range(1000):
        seam.heard(streams.write(bounded=False))
        assert len(seam._held) <= 10
    assert seam.take() == []
    assert seam.must_read
    events, to_end = streams.page(seam.begin_reading().position, 2000)
    assert seam.have_read(seam.begin_reading(), events, to_end=to_end) == streams.events


def test_what_is_held_together_comes_out_in_the_order_of_ids() -> None:
    """Law: a log line that is heard after an event of a higher id still comes before it, if both are known by then."""
    streams, seam = Streams(), Seam(Position())
    seam.have_read(seam.begin_reading(), [], to_end=True)
    log, state = streams.write(bounded=True), streams.write(bounded=False)
    seam.heard(state)
    seam.heard(log)
    assert seam.take() == [log, state]
