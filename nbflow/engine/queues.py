"""Pausing queues: nothing starts in a paused one. What runs goes on, what comes waits, and RQ's own workers do not know."""

from __future__ import annotations

from typing import Any

from nbflow.define.checked import checked_queue
from nbflow.store.connect import Store, translated

__all__ = ["pause", "resume"]

_TOKENS = 64
"""So many wake tokens a queue holds at most, as in the scripts."""


def pause(store: Store, queue: str) -> None:
    """Let nothing start in the queue. It need not exist yet."""
    client: Any = store.client
    with translated(store.url):
        client.sadd(store.keys.paused(), checked_queue(queue))


def resume(store: Store, queue: str) -> None:
    """Let its tasks start, and wake the idle workers for them. Nothing happens to a queue that is not paused."""
    client: Any = store.client
    with translated(store.url):
        if not client.srem(store.keys.paused(), checked_queue(queue)):
            return
        waiting = client.llen(store.keys.rq_queue(queue)) + client.zcard(store.keys.priorities(queue))
        wanted = min(_TOKENS, waiting) - client.llen(store.keys.wake(queue))
        if wanted > 0:
            client.rpush(store.keys.wake(queue), *[1] * wanted)
