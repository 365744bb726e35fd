"""Following runs on a real server: live, late, slow, cut off, forked, in callbacks and in an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from nbflow.errors import CommandRefused, UnknownRun
from nbflow.model.events import Event
from nbflow.store.connect import Store
from nbflow.store.log import RunLog
from nbflow.watch import tail
from nbflow.watch.follow import Follower
from tests.following import Writer, follower, in_thread, store, subscribed, until
from tests.servers import start_server

# What `lua/parts/event.lua` and `append.lua` do: one record and its notice, ids of one sequence in both streams.


def test_all_events_come_in_order_and_once_to_everyone(store: Store, follower: Follower) -> None:
    """Law: whenever and wherever one begins, one connection serves all."""
    writer = Writer(store)
    writer.write_many(50)
    got = [in_thread(lambda: follower.follow("r1", timeout=30)) for _ in range(5)]
    middle = writer.write()
    got_late = in_thread(lambda: follower.follow("r1", after=middle, timeout=30))
    writer.write_many(1500)
    assert subscribed(store) == 1
    writer.end()
    written = [event.id for event in RunLog(store).read("r1")]
    for events in got:
        assert events() == written
    assert got_late() == written[written.index(middle) + 1 :]


def test_nothing_is_lost_when_connections_are_cut_all_the_time(store: Store, follower: Follower) -> None:
    """Law: after a reconnect it goes on from the last id, whatever was published meanwhile."""
    writer = Writer(store)
    heard: list[str] = []
    follower.subscribe("r1", lambda events: heard.extend(event.id for event in events))
    got = [in_thread(lambda: follower.follow("r1", timeout=60)) for _ in range(3)]
    for n in range(600):
        writer.write("log" if n % 2 else "state")
        if n % 40 == 0:
            store.text.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    writer.end()
    written = [event.id for event in RunLog(store).read("r1")]
    for events in got:
        assert events() == written
    until(lambda: heard == written, lambda: f"{len(heard)} of {len(written)}")


def test_a_restart_of_the_server_is_lived_through(tmp_path: Path) -> None:
    """Law: the server may crash and come back; a follower goes on from the last id."""
    before = start_server("valkey", tmp_path, aof=True)
    store = Store(before.tcp_url)
    follower, writer, heard = Follower(store), Writer(store), list[str]()
    got = in_thread(lambda: follower.follow("r1", timeout=60))
    follower.subscribe("r1", lambda events: heard.extend(event.id for event in events))
    writer.write_many(30)
    until(lambda: len(heard) == 31, lambda: f"{len(heard)} of 31")
    store.text.execute_command("CONFIG", "SET", "appendfsync", "always")
    writer.write_many(5)
    before.kill()
    after = start_server("valkey", tmp_path, f"--port {before.port}", aof=True)
    try:
        writer.write_many(30)
        writer.end()
        written = [event.id for event in RunLog(store).read("r1")]
        assert len(written) == 67
        assert got() == written
        until(lambda: heard == written, lambda: f"{len(heard)} of {len(written)}")
    finally:
        follower.close()
        store.close()
        after.stop()


def test_a_slow_follower_is_given_a_fresh_read(store: Store, follower: Follower) -> None:
    """Law: who does not come to fetch holds back nobody, and misses nothing."""
    writer = Writer(store)
    slow = follower.follow("r1", timeout=60)
    first = next(slow)
    quick = in_thread(lambda: follower.follow("r1", timeout=60))
    writer.write_many(5000)
    writer.end()
    written = [event.id for event in RunLog(store).read("r1")]
    assert quick() == written
    assert [first.id, *(event.id for event in slow)] == written


def test_a_message_that_was_never_sent_is_found_by_the_safety_read(
    store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: a lost message delays, it does not hang."""
    monkeypatch.setattr(tail, "SAFETY_S", 0.2)
    writer = Writer(store)
    heard: list[str] = []
    follower.subscribe("r1", lambda events: heard.extend(event.type for event in events))
    got = in_thread(lambda: follower.follow("r1", timeout=30))
    until(lambda: follower.is_listening and heard == ["flow.start"], lambda: str(heard))
    writer.write(silent=True)
    writer.write("flow.completed", silent=True)
    assert len(got()) == 3
    until(lambda: heard == ["flow.start", "state", "flow.completed"], lambda: str(heard))


def test_an_ended_run_is_read_without_listening(store: Store, follower: Follower) -> None:
    writer = Writer(store)
    writer.write_many(2500)
    writer.end()
    assert len(list(follower.follow("r1"))) == 2502
    assert not follower.is_listening


def test_last_words_after_a_cancel_are_heard(store: Store, follower: Follower) -> None:
    """Law: only logs and the tasks' ends follow a cancel, and they do come."""
    writer = Writer(store)
    got = in_thread(lambda: follower.follow("r1", timeout=30))
    until(lambda: follower.is_listening, lambda: "not listening")
    writer.end("flow.cancel")
    writer.write("step.canceled")
    writer.write("log")
    assert got()[-3:] == [event.id for event in RunLog(store).read("r1")][-3:]


def test_an_unknown_run_and_a_deleted_one_are_said_to_be_unknown(
    store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "SAFETY_S", 0.1)
    with pytest.raises(UnknownRun, match="no run 'nope'"):
        next(follower.follow("nope"))
    Writer(store)
    following = follower.follow("r1", timeout=30)
    assert next(following).type == "flow.start"
    store.client.delete(store.keys.run("r1"), store.keys.stream("r1"))
    with pytest.raises(UnknownRun, match="no run 'r1'"):
        next(following)


def test_a_timeout_ends_the_following_and_not_the_run(store: Store, follower: Follower) -> None:
    Writer(store)
    following = follower.follow("r1", timeout=0.1)
    assert next(following).type == "flow.start"
    with pytest.raises(TimeoutError, match="goes on"):
        next(following)


def test_whoever_stops_leaves_nothing_behind(store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: mounted and unmounted a hundred times: no listener, no subscription left, and later no thread."""
    monkeypatch.setattr("nbflow.watch.listen.REST_S", 0.0)
    monkeypatch.setattr("nbflow.watch.listen.TICK_S", 0.05)
    Writer(store)
    for _ in range(100):
        follower.subscribe("r1", [].extend).close()
        following = follower.follow("r1", timeout=10)
        next(following)
        following.close()
    until(lambda: not follower.is_listening, lambda: str(follower._listener._ears))
    assert follower._listener._ears == {}
    until(lambda: subscribed(store) == 0, lambda: f"{subscribed(store)} connections")


def test_a_callback_that_fails_leaves_the_others_alone(store: Store, follower: Follower) -> None:
    writer = Writer(store)
    heard: list[Event] = []

    def fail(events: list[Event]) -> None:
        raise RuntimeError("mine")

    follower.subscribe("r1", fail)
    follower.subscribe("r1", heard.extend)
    writer.end()
    until(lambda: len(heard) == 2, lambda: str(heard))


def test_events_come_in_an_event_loop_too(store: Store, follower: Follower) -> None:
    """Law: `async for` gives the same, and the loop goes on meanwhile."""
    writer = Writer(store)
    writer.write_many(20)

    async def watch() -> tuple[list[str], int]:
        ids: list[str] = []
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        writing = threading.Timer(0.2, lambda: (writer.write_many(200), writer.end()))
        writing.start()
        async for event in follower.follow("r1", timeout=30):
            ids.append(event.id)  # noqa: PERF401 - the loop is what is tested
        ticking.cancel()
        writing.join()  # before the store is closed, else redis-py would write again
        return ids, ticks

    ids, ticks = asyncio.run(watch())
    assert ids == [event.id for event in RunLog(store).read("r1")]
    assert ticks > 10


def test_the_life_of_all_runs_is_heard(store: Store, follower: Follower) -> None:
    news: list[dict[str, str]] = []
    doubts: list[float] = []
    end = follower.subscribe_life(news.extend, lambda: doubts.append(time.monotonic()))
    until(lambda: len(doubts) == 2, lambda: f"{len(doubts)} doubts")  # at once, and when the server confirmed
    store.text.publish(store.keys.life_channel(), '{"run":"r1","flow":"etl","type":"flow.start"}')
    until(lambda: bool(news), lambda: str(news))
    assert news == [{"run": "r1", "flow": "etl", "type": "flow.start"}]
    end()


def test_a_closed_follower_says_so(store: Store) -> None:
    Writer(store)
    follower = Follower(store)
    following = follower.follow("r1", timeout=10)
    next(following)
    follower.close()
    with pytest.raises(CommandRefused, match="was closed"):
        next(following)


def test_both_streams_are_one_whatever_the_size_of_a_page(store: Store) -> None:
    """Law: pages join without gap or double, also where one stream is much longer than the other."""
    writer = Writer(store)
    for n in range(120):
        writer.write("log" if n < 50 or n % 7 == 0 else "state", f'{{"n":{n}}}')
    every = list(RunLog(store).read("r1"))
    assert [event.data.get("n") for event in every] == [None, *range(120)]
    for size in (1, 2, 3, 7, 60):
        log = RunLog(store, page_size=size)
        assert list(log.read("r1")) == every
        assert list(log.read("r1", after=every[40].id)) == every[41:]
        assert [event.id for event in log.only_logs("r1")] == [event.id for event in every if event.type == "log"]
    assert [event for event in every if event.type != "log"] == list(RunLog(store).read("r1", logs=False))


def test_data_that_is_no_object_is_kept_and_harms_no_neighbour(store: Store) -> None:
    writer = Writer(store)
    for data in ("{}", "1,2", "nonsense", "[1]", '{"x":1}'):
        writer.write(data=data, silent=True)
    raw = [event.data for event in RunLog(store).read("r1")][1:]
    assert raw == [{}, {"raw": "1,2"}, {"raw": "nonsense"}, {"raw": [1]}, {"x": 1}]
