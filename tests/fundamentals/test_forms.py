"""Every form of subscription, executed by real workers."""

from __future__ import annotations

from typing import Any

import pytest

from nbflow import NOTHING, Context, any_of, collect, completed, each, failed
from nbflow.errors import StepFailure
from tests.site import Site


def test_a_chain_hands_on_what_each_step_returns(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def one(n: int = 1) -> int:
        return n + 1

    @flow.step(one)
    def two(n: int) -> int:
        return n * 10

    assert flow.start(n=4).wait(20, progress=False).result == 50


def test_a_list_waits_for_all_it_names_and_binds_by_name(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["order.left", "order.right"])
    def split(ctx: Context) -> None:
        ctx.emit("order.right", "R")
        ctx.emit("order.left", "L")

    @flow.step(["order.left", "order.right"])
    def join(order_right: str, order_left: str) -> str:
        return order_left + order_right

    assert flow.start().wait(20, progress=False).result == "LR"


def test_any_of_takes_the_first_that_comes_and_only_that(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["good", "bad"])
    def judge(value: int, ctx: Context) -> None:
        ctx.emit("good" if value > 0 else "bad", value)

    @flow.step(any_of("good", "bad"))
    def either(what: tuple[str, int]) -> tuple[str, int]:
        return what

    @flow.step("bad")
    def worry(value: int) -> str:
        return "oh"

    run = flow.start(value=3).wait(20, progress=False)
    assert run["either"] == ("good", 3)
    assert run.view.steps["worry"].status == "skipped"
    assert run.result == ("good", 3)


def test_a_map_keeps_order_keys_and_nesting(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def words() -> list[str]:
        return ["bb", "a", "ccc"]

    @flow.step(each(words), key=str, emits=["letter"])
    def letters(word: str, ctx: Context) -> int:
        ctx.emit_each("letter", list(word))
        return len(word)

    @flow.step(each("letter"))
    def shout(letter: str, ctx: Context) -> Any:
        return letter.upper(), ctx.index

    @flow.step(collect(shout))
    def all_of(pairs: list[Any]) -> list[Any]:
        return pairs

    run = flow.start().wait(20, progress=False)
    assert run["all_of"] == [
        ("B", (0, 0)), ("B", (0, 1)), ("A", (1, 0)), ("C", (2, 0)), ("C", (2, 1)), ("C", (2, 2)),
    ]  # fmt: skip
    assert list(run["letters"]) == [2, 1, 3]
    assert run["letters"]["ccc"] == 3
    assert run["shout"][2, 1] == ("C", (2, 1))


def test_an_empty_map_flows_through(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def none() -> list[int]:
        return []

    @flow.step(each(none))
    def double(n: int) -> int:
        return 2 * n

    @flow.step(collect(double))
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    assert flow.start().wait(20, progress=False).result == 0


def test_each_of_two_topics_meets_by_index(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def numbers() -> list[int]:
        return [1, 2, 3]

    @flow.step(each(numbers))
    def double(n: int) -> int:
        return 2 * n

    @flow.step(each(numbers))
    def square(n: int) -> int:
        return n * n

    @flow.step(each(double, square))
    def both(double: int, square: int) -> tuple[int, int]:
        return double, square

    run = flow.start().wait(20, progress=False)
    assert run.result == [(2, 1), (4, 4), (6, 9)]


def test_elements_wait_for_the_other_subscription(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def numbers() -> list[int]:
        return [1, 2]

    @flow.step(numbers)
    def factor(n: list[int]) -> int:
        return 10

    @flow.step([each(numbers), factor])
    def scale(numbers: int, factor: int) -> int:
        return numbers * factor

    assert flow.start().wait(20, progress=False).result == [10, 20]


def test_completed_receives_all_results_and_is_skipped_after_a_failure(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def numbers(bad: bool = False) -> list[int]:
        return [1, 0 if bad else 2]

    @flow.step(each(numbers))
    def inverse(n: int) -> float:
        return 1 / n

    @flow.step(completed(inverse))
    def done(values: list[float]) -> list[float]:
        return values

    assert flow.start().wait(20, progress=False).result == [1.0, 0.5]
    run = flow.start(bad=True).wait(20, progress=False)
    assert run.status == "failed"
    assert run.view.steps["done"].status == "skipped"
    with pytest.raises(StepFailure, match="ZeroDivisionError"):
        _ = run.result


def test_a_handled_failure_leaves_the_run_completed(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def numbers() -> list[int]:
        return [1, 0, 2]

    @flow.step(each(numbers), key=lambda n: f"n{n}")
    def inverse(n: int) -> float:
        return 1 / n

    @flow.step(each(failed(inverse)))
    def excuse(failure: dict[str, Any]) -> Any:
        return failure["key"], failure["index"], failure["input"], failure["error"], failure["attempt"]

    @flow.step(collect(inverse, failures="keep"))
    def rest(values: list[float]) -> Any:
        return values, {key: value["error"] for key, value in values.failed.items()}  # type: ignore[attr-defined]

    run = flow.start().wait(20, progress=False)
    assert run.status == "completed"
    assert list(run["excuse"]) == [("n0", 1, 0, "ZeroDivisionError: division by zero", 1)]
    assert run["rest"] == ([1.0, 0.5], {"n0": "ZeroDivisionError: division by zero"})


def test_a_cycle_through_each_ends_when_nothing_is_emitted(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["todo"])
    def begin(ctx: Context) -> None:
        ctx.emit("todo", 3)

    @flow.step(each("todo"), emits=["todo", "seen"])
    def count_down(n: int, ctx: Context) -> None:
        ctx.emit("seen", n)
        if n > 0:
            ctx.emit("todo", n - 1)

    @flow.step(collect("seen"))
    def order(values: list[int]) -> list[int]:
        return values

    assert sorted(flow.start().wait(20, progress=False)["order"]) == [0, 1, 2, 3]


def test_nothing_returned_emits_nothing(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["go"])
    def maybe(go: bool) -> Any:
        return "went" if go else NOTHING

    @flow.step("go")
    def went(what: str) -> str:
        return what

    assert flow.start(go=True).wait(20, progress=False).result == "went"
    run = flow.start(go=False).wait(20, progress=False)
    assert run.view.steps["went"].status == "skipped"
    assert run.result is None


def test_a_map_of_a_thousand_is_made_in_slices_and_keeps_its_order(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def many() -> range:
        return range(1200)

    @flow.step(each(many))
    def same(n: int) -> int:
        return n

    @flow.step(collect(same))
    def ordered(values: list[int]) -> bool:
        return values == list(range(1200))

    assert flow.start().wait(60, progress=False).result is True


def test_emissions_of_a_failed_attempt_do_not_count(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["half"])
    def breaks(ctx: Context) -> None:
        ctx.emit("half", 1)
        raise ValueError("after the emit")

    @flow.step("half")
    def never(value: int) -> None: ...

    run = flow.start().wait(20, progress=False)
    assert run.status == "failed"
    assert "emit" not in set(run.events["type"])
    assert run.view.steps["never"].status == "skipped"


def test_async_steps_and_generators(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    async def later() -> int:
        import asyncio

        await asyncio.sleep(0)
        return 3

    @flow.step(later)
    def count(n: int) -> Any:
        yield from range(n)

    @flow.step(each(count))
    def same(n: int) -> int:
        return n

    assert flow.start().wait(20, progress=False).result == [0, 1, 2]
