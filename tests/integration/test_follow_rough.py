"""Following where things go wrong: junk on the channels, ears that fail, threads that end, forks."""

from __future__ import annotations

import faulthandler
import os
import threading
import traceback
from pathlib import Path
from typing import NoReturn

import pytest

from nbflow.store.connect import Store
from nbflow.store.log import RunLog
from nbflow.watch.follow import Follower
from tests.following import Writer, follower, in_thread, listeners, store, subscribed, until

# What `lua/parts/event.lua` and `append.lua` do: one record and its notice, ids of one sequence in both streams.

JUNK = (
    b"",
    b"nonsense",
    b"\xff\xfe",
    b"null",
    b"7",
    b'"text"',
    b"[]",
    b"{}",
    b"[" * 200_000,
    b'{"id":"1-0","type":"state","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"id":1,"type":"state"}',
    b'{"id":null,"type":"state"}',
    b'{"id":"never","type":"state"}',
    b'{"id":"99999999999999999999999-0","type":"state"}',
    b'{"id":"1764000000000-0","type":{}}',
    b'{"id":"1764000000000-0","type":"state","task":[1],"attempt":1}',
    b'{"id":"1764000000000-0","type":"state","attempt":Infinity}',
    b'{"id":"1764000000000-0","type":"state","attempt":"many"}',
    b'{"run":1,"flow":"etl","type":"flow.start"}',
    b'{"run":"r1","flow":[],"type":"flow.start"}',
    b"x" * 1_000_000,
    b'{"data":"' + b"x" * 1_000_000 + b'"}',
)


def test_junk_on_the_channels_is_passed_over(store: Store, follower: Follower) -> None:
    """Law: whoever publishes whatever: all events come in order and once, and the listening thread lives."""
    writer, heard, news, doubts = Writer(store), list[str](), list[dict[str, str]](), list[int]()
    before = listeners()
    follower.subscribe("r1", lambda events: heard.extend(event.id for event in events))
    end = follower.subscribe_life(news.extend, lambda: doubts.append(1))
    got = in_thread(lambda: follower.follow("r1", timeout=30))
    until(lambda: len(heard) == 1 and len(doubts) == 2, lambda: str((heard, doubts)))
    (thread,) = listeners() - before
    for junk in JUNK:
        for channel in (store.keys.events_channel("r1"), store.keys.life_channel()):
            store.client.publish(channel, junk)
        writer.write()
    store.text.publish(store.keys.life_channel(), '{"run":"r1","flow":"etl","type":"flow.completed"}')
    until(lambda: bool(news), lambda: str((news, len(doubts))))
    assert thread.is_alive()
    assert follower.is_listening
    writer.end()
    written = [event.id for event in RunLog(store).read("r1")]
    assert got() == written
    until(lambda: heard == written, lambda: f"{len(heard)} of {len(written)}")
    assert news == [{"run": "r1", "flow": "etl", "type": "flow.completed"}]
    assert len(doubts) == 2 + len(JUNK)
    end()


def test_an_ear_that_fails_leaves_the_others_alone(store: Store, follower: Follower) -> None:
    """Law: a mistake in what is called at a doubt ends neither the thread nor the others' hearing."""
    told, doubts, calls = list[dict[str, str]](), list[int](), list[int]()

    def fail() -> None:
        calls.append(1)
        if len(calls) > 1:  # the first comes from the one who subscribes
            raise RuntimeError("mine")

    end = follower.subscribe_life(told.extend, lambda: doubts.append(1))
    until(lambda: len(doubts) == 2, lambda: str(doubts))  # the second says that the server has confirmed
    follower.subscribe_life([].append, fail)
    store.text.publish(store.keys.life_channel(), "junk makes a doubt")
    until(lambda: len(calls) == 2, lambda: str(calls))
    store.text.publish(store.keys.life_channel(), '{"run":"r1","flow":"etl","type":"flow.start"}')
    until(lambda: bool(told), lambda: str(told))
    assert follower.is_listening
    end()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_badly_is_not_taken_for_a_listening_one(store: Store, follower: Follower) -> None:
    """Law: `is_listening` tells the truth, and the next listener gets a thread."""

    def leave(_: object) -> None:
        raise SystemExit

    ended = follower.subscribe_life(leave)
    until(lambda: subscribed(store) == 1, lambda: "not subscribed")
    store.text.publish(store.keys.life_channel(), '{"run":"r1","flow":"etl","type":"flow.start"}')
    until(lambda: not follower.is_listening, lambda: "still listening")
    ended()
    told: list[dict[str, str]] = []
    end = follower.subscribe_life(told.extend)
    until(lambda: follower.is_listening and subscribed(store) == 1, lambda: "not listening")
    end()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_follows_on_its_own(store: Store, follower: Follower, tmp_path: Path) -> None:
    """Law: thread and connection stay with the parent; the child gets its own."""
    writer = Writer(store)
    got = in_thread(lambda: follower.follow("r1", timeout=30))
    until(lambda: follower.is_listening, lambda: "not listening")
    child = os.fork()
    if child == 0:
        _be_the_child(follower, tmp_path / "child")
    until(lambda: subscribed(store) == 2, lambda: f"{subscribed(store)} connections")
    writer.write_many(100)
    writer.end()
    written = [event.id for event in RunLog(store).read("r1")]
    assert got() == written
    os.waitpid(child, 0)
    assert (tmp_path / "child").read_text().split("\n") == written


def _be_the_child(follower: Follower, file: Path) -> NoReturn:
    """Whatever happens: never come back into the test, and never hang."""
    with file.open("w") as said:
        faulthandler.dump_traceback_later(15, exit=True, file=said)
        try:
            said.write("\n".join(event.id for event in follower.follow("r1", timeout=10)))
        except BaseException:  # noqa: BLE001 - the parent reads it
            traceback.print_exc(file=said)
        said.flush()
        os._exit(0)


def test_an_interrupt_before_the_thread_has_started_leaves_nothing_to_join(
    store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: Ctrl-C may come anywhere. What it interrupted can be closed, and follows again."""
    writer, before = Writer(store), listeners()

    def interrupted(_: threading.Thread) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            follower.subscribe("r1", lambda _: None)
    follower.close()
    assert listeners() == before
    again, heard = Follower(store), list[str]()
    again.subscribe("r1", lambda events: heard.extend(event.id for event in events))
    writer.write()
    until(lambda: heard != [], lambda: "nothing heard")
    again.close()
