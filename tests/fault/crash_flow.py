"""The flow that the crash matrix runs: in its life every script that a run needs is called, for one queue or for two."""

from __future__ import annotations

from typing import Any, Literal

from nbflow import Context, Flow, Retry, collect, each

__all__ = ["RESULT", "crash_flow"]

RESULT = {"sum": 18, "bytes": 160_000, "state": {"set": 7}}


def crash_flow(name: str, queues: tuple[str, str], isolation: Literal["process"] | None = None) -> Flow:
    """A map with a retry, a task that outlives a beat (isolated or not), state, logs, an artifact, a collect."""
    flow = Flow(name)
    first, second = queues

    @flow.entry(queue=first)
    def numbers(n: int = 3) -> list[int]:
        return list(range(n))

    @flow.step(each(numbers), queue=second, retry=Retry(5, backoff=0.01))
    def double(n: int, ctx: Context) -> int:
        print("number", n)
        if n == 1 and ctx.attempt == 1:
            raise ValueError("once")
        return 2 * n

    @flow.step(numbers, queue=second, isolation=isolation)
    def slow(n: list[int], ctx: Context) -> Any:
        import time

        import numpy as np

        ctx.state.set("set", 7)
        ctx.log.info("it takes a while")
        time.sleep(0.25)
        return np.arange(20_000, dtype=np.int64)

    @flow.step([collect(double), slow], queue=first)
    def total(values: list[int], made: Any, ctx: Context) -> Any:
        ctx.artifact("made", made)
        return {"sum": sum(values) * 3, "bytes": made.nbytes, "state": ctx.state.all()}

    return flow
