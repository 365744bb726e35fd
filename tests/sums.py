"""A flow under test. It lies in a module of its own, as flows of a project do: code is packed with the modules that it is
of, and a test's own module need not travel."""

from __future__ import annotations

from nbflow import Flow, collect, each

__all__ = ["sums"]


def sums(flow: Flow) -> Flow:
    """Twice the sum of 0 … n - 1, a task for each number."""

    @flow.entry
    def numbers(n: int = 3) -> list[int]:
        return list(range(n))

    @flow.step(each(numbers), key=lambda n: f"n{n}")
    def double(n: int) -> int:
        return 2 * n

    @flow.step(collect(double))
    def total(values: list[int]) -> int:
        return sum(values)

    return flow
