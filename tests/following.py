"""What the tests of following share: a writer of events, servers of both kinds, a follower, and waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nbflow.store.connect import Store
from nbflow.watch import follow
from nbflow.watch.follow import Follower

# What `lua/parts/event.lua` and `append.lua` do: one record and its notice, ids of one sequence in both streams.
WRITE = """
local P, run, bounded, kind, task, data, silent = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local flow, key = P..':flow:'..run, bounded == '1' and P..':log:'..run or P..':flow:'..run
local last = redis.call('XINFO', 'STREAM', flow)[8]
local ms, n = string.match(last, '(%d+)-(%d+)')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if now > tonumber(ms) then ms, n = now, -1 end
local id = string.format('%.0f-%.0f', ms, n + 1)
redis.call('XADD', key, id, 'type', kind, 'task', task, 'attempt', 1, 'data', data)
if bounded == '1' then redis.call('XSETID', flow, id) end
if silent ~= '1' then
  redis.call('PUBLISH', P..':events:'..run, '{"id":"'..id..'","type":"'..kind..'","task":"'..task..'","attempt":1,"data":'..data..'}')
end
return id
"""


class Writer:
    """Writes a run as the scripts do."""

    def __init__(self, store: Store, run: str = "r1") -> None:
        self._store = store
        self.run = run
        self._script = store.text.register_script(WRITE)
        store.text.hset(store.keys.run(run), mapping={"status": "running", "flow": "etl", "started": 1})
        store.text.xadd(store.keys.stream(run), {"type": "flow.start", "task": "", "attempt": 0, "data": "{}"})

    def write(self, kind: str = "state", data: str = "{}", *, silent: bool = False) -> str:
        bounded = "1" if kind in ("log", "progress", "metric") else "0"
        arguments = [self._store.keys.namespace, self.run, bounded, kind, "a", data, "1" if silent else "0"]
        return str(self._script(args=arguments))

    def write_many(self, count: int) -> None:
        for n in range(count):
            self.write("log" if n % 3 == 0 else "state", f'{{"n":{n}}}')

    def end(self, kind: str = "flow.completed") -> None:
        self.write(kind)


@pytest.fixture
def store(server: str) -> Iterator[Store]:
    store = Store(server)
    yield store
    store.client.flushall()
    store.close()


def listeners() -> set[threading.Thread]:
    """Threads that listen now; other followers of this process may have theirs."""
    return {thread for thread in threading.enumerate() if thread.name == "nbflow-listener"}


@pytest.fixture
def follower(store: Store) -> Iterator[Follower]:
    before = listeners()
    follower = Follower(store)
    yield follower
    follower.close()
    assert listeners() <= before
    assert subscribed(store) == 0


def in_thread(start: Callable[[], follow.Following]) -> Callable[[], list[str]]:
    """Iterate in a thread; what is returned waits for it and gives the ids."""
    ids: list[str] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for event in start():
                ids.append(event.id)  # noqa: PERF401 - one by one, as they come
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join() -> list[str]:
        thread.join(timeout=60)
        assert not failed, failed
        assert not thread.is_alive(), f"still following after 60 s, with {len(ids)} events"
        return ids

    return join


def subscribed(store: Store) -> int:
    return len(store.text.client_list(_type="pubsub"))


def until(is_so: Callable[[], bool], seen: Callable[[], str], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, seen()
        time.sleep(0.005)
