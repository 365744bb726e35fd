"""The flows that chaos runs, and what must come out of each if nobody cancels it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbflow import Concurrency, Context, Flow, Retry, Time, any_of, collect, each, failed

__all__ = ["MIXED"]


def _map_of_retries(flow: Flow) -> None:
    @flow.entry
    def numbers(n: int) -> list[int]:
        return list(range(n))

    @flow.step(each(numbers), retry=Retry(9, backoff=0.02))
    def double(n: int, ctx: Context) -> int:
        print("number", n)
        if n % 3 == 1 and ctx.attempt == 1:
            raise ValueError("once")
        return 2 * n

    @flow.step(collect(double))
    def total(values: list[int]) -> int:
        return sum(values)


def _branches(flow: Flow) -> None:
    @flow.entry(emits=["even", "odd"])
    def judge(n: int, ctx: Context) -> None:
        ctx.emit("odd" if n % 2 else "even", n)

    @flow.step("odd")
    def spoils(n: int) -> int:
        raise ValueError(f"{n} is odd")

    @flow.step("even")
    def halves(n: int) -> int:
        return n // 2

    @flow.step(failed(spoils))
    def mends(failure: Any) -> int:
        return 7

    @flow.step(any_of(halves, mends))
    def last(halves: int | None, mends: int | None) -> int:
        return n if (n := halves) is not None else mends or 0


def _chain(flow: Flow) -> None:
    @flow.entry
    def first(n: int, ctx: Context) -> int:
        ctx.state.set("n", n)
        ctx.log.info("first", n=n)
        return n

    @flow.step(first)
    def second(n: int, ctx: Context) -> int:
        import time

        time.sleep(0.02)
        return n + ctx.state.get("n")

    @flow.step(second)
    def third(n: int) -> int:
        return n + 1


def _limited(flow: Flow) -> None:
    @flow.entry
    def some(n: int) -> list[int]:
        return list(range(n % 4))

    @flow.step(each(some), concurrency=Concurrency(2))
    def narrow(n: int) -> int:
        return n

    @flow.step(collect(narrow))
    def count(values: list[int]) -> int:
        return len(values)


def _held(flow: Flow) -> None:
    @flow.entry(hold=Time(0.03))
    def later(n: int) -> int:
        return n

    @flow.step(later, hold_emits=Time(0.03), retry=Retry(9, backoff=0.02))
    def looked_at(n: int, ctx: Context) -> int:
        if ctx.attempt == 1 and n % 2:
            raise ValueError("once")
        return n + 1

    @flow.step(looked_at)
    def told(n: int) -> int:
        return n + 1


MIXED: dict[str, tuple[Callable[[Flow], None], Callable[[int], int]]] = {
    "map": (_map_of_retries, lambda n: n * (n - 1)),
    "branches": (_branches, lambda n: 7 if n % 2 else n // 2),
    "chain": (_chain, lambda n: 2 * n + 1),
    "limited": (_limited, lambda n: n % 4),
    "held": (_held, lambda n: n + 2),
}
