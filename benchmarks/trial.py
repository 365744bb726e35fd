"""Runs in process: schedules a second of a flow of 20 tasks, in seeded orders, with and without crashes; and what packing
a flow costs, which is done once a trial."""

from __future__ import annotations

import time

from nbflow import Context, Flow, any_of, collect, each

RUNS = 300


def chain(flow: Flow) -> Flow:
    """Twenty steps, one after the other."""

    @flow.entry
    def s0(n: int = 1) -> int:
        return n

    before = s0
    for i in range(1, 20):

        def body(n: int) -> int:
            return n + 1

        before = flow.step(before, name=f"s{i}")(body)
    return flow


def mixed(flow: Flow) -> Flow:
    """Twenty steps: a map of five, branches, joins, and a collect."""

    @flow.entry(emits=["left", "right"])
    def begin(n: int, ctx: Context) -> list[int]:
        ctx.emit("left", n)
        ctx.emit("right", n)
        return list(range(n))

    @flow.step(each(begin))
    def parse(n: int) -> int:
        return n + 1

    @flow.step(collect(parse))
    def merge(values: list[int]) -> int:
        return sum(values)

    @flow.step(any_of("left", "right"))
    def first(what: tuple[str, int]) -> int:
        return what[1]

    ends = [merge, first]
    for i in range(16):

        def body(one: int, two: int) -> int:
            return one + two

        ends = [ends[1], flow.step([ends[0], ends[1]], name=f"join{i}")(body)]
    return flow


def rate(flow: Flow, crashes: float, **given: int) -> tuple[float, float, int]:
    """Milliseconds until the first run has ended, runs a second, events of a run."""
    trial, began = flow.trial(crashes=crashes), time.perf_counter()
    run = trial.run(**given)
    first, began = time.perf_counter() - began, time.perf_counter()
    trial.interleavings(RUNS, **given)
    return first * 1000, RUNS / (time.perf_counter() - began), len(list(run.follow()))


def main() -> None:
    flows = {"chain of 20": (chain(Flow("bench-chain")), {}), "mixed, 20 steps": (mixed(Flow("bench-mixed")), {"n": 5})}
    for name, (flow, given) in flows.items():
        for crashes in (0.0, 0.1):
            first, per_s, events = rate(flow, crashes, **given)
            print(f"{name}, crashes {crashes:.0%}: {per_s:.0f} runs/s, {events} events; first run {first:.0f} ms")


if __name__ == "__main__":
    main()
