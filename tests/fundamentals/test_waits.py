"""Steps that wait. Here in process, on a clock that jumps; on workers the same happens."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from nbflow import Approval, Context, Flow, OnEvent, Retry, Schedule, Time, collect, each, received
from nbflow.errors import CommandRefused, DefinitionError, StepFailure


class Decision(BaseModel):
    ok: bool


@pytest.fixture
def flow() -> Flow:
    """A flow of a name that no other test has."""
    return Flow(f"t{uuid.uuid4().hex[:10]}")


def hours(run: Any) -> float:
    """How long the run took, on its own clock."""
    return (run.view.ended_ms - run.view.started_ms) / 3_600_000


def test_a_step_waits_for_a_person(flow: Flow):
    @flow.entry(hold=Approval(Decision, message="Pay it?"))
    def pay(amount: int, decision: Decision) -> str:
        return f"paid {amount}" if decision.ok else "refused"

    run = flow.trial().resolve("pay", {"ok": True}, after="3h").run(amount=5)
    assert run.result == "paid 5"
    assert hours(run) == 3


def test_who_answers_nothing_is_waited_for_until_the_timeout(flow: Flow):
    @flow.entry(hold=Approval(Decision, timeout="2d"))
    def pay(decision: Decision) -> bool:
        return decision.ok

    run = flow.test()
    assert hours(run) == 48
    with pytest.raises(StepFailure, match="nobody answered within the timeout"):
        _ = run.result


def test_it_may_go_on_without_an_answer(flow: Flow):
    @flow.entry(hold=Approval(Decision, timeout="2d", on_timeout="continue"))
    def pay(decision: Decision | None) -> str:
        return "nobody said no" if decision is None else "somebody said something"

    assert flow.test().result == "nobody said no"


def test_it_may_ask_again(flow: Flow):
    @flow.entry(hold=Approval(Decision, timeout="1h", on_timeout="retry"), retry=Retry(3, backoff="1h"))
    def pay(decision: Decision, ctx: Context) -> int:
        return ctx.attempt

    run = flow.trial().resolve("pay", {"ok": True}, after="2h").resolve("pay", {"ok": True}, after="30m").run()
    assert run.result == 2
    assert hours(run) == 2.5  # the timeout, the back-off, and half an hour


def test_a_result_may_wait_until_somebody_has_looked_at_it(flow: Flow):
    @flow.entry(hold_emits=Approval(message="Publish?"))
    def report() -> str:
        return "all is well"

    @flow.step(report)
    def publish(text: str) -> str:
        return f"published: {text}"

    run = flow.trial().resolve("report", after="1h").run()
    assert run.result == "published: all is well"
    assert hours(run) == 1


def test_each_task_of_a_map_waits_on_its_own(flow: Flow):
    @flow.entry
    def orders() -> list[dict[str, Any]]:
        return [{"id": 7}, {"id": 8}]

    @flow.step(each(orders), hold=OnEvent("paid", match={"order": received("id")}))
    def ship(order: dict[str, Any], ctx: Context) -> str:
        return f"{order['id']}: {ctx.resolved['receipt']}"

    @flow.step(collect(ship))
    def done(lines: list[str]) -> list[str]:
        return lines

    trial = flow.trial()
    trial.emit("paid", {"order": 8, "receipt": "r-1"}, after="1h").emit(
        "paid", {"order": 7, "receipt": "r-2"}, after="2h"
    )
    assert trial.run().result == ["7: r-2", "8: r-1"]


def test_an_event_of_the_past_counts_if_one_looks_back(flow: Flow):
    @flow.entry(hold=Time("1h"))
    def late() -> None: ...

    @flow.step(late, hold=OnEvent("paid", lookback="2h", timeout="1h"))
    def ship(nothing: None, ctx: Context) -> Any:
        return ctx.resolved

    assert flow.trial().emit("paid", "early", after="30m").run().result == "early"


def test_an_event_of_the_past_is_missed_if_one_does_not(flow: Flow):
    @flow.entry(hold=Time("1h"))
    def late() -> None: ...

    @flow.step(late, hold=OnEvent("paid", timeout="1h", on_timeout="continue"))
    def ship(nothing: None, ctx: Context) -> Any:
        return ctx.resolved

    assert flow.trial().emit("paid", "early", after="30m").run().result is None


def test_a_time_and_an_occurrence_are_waited_for(flow: Flow):
    @flow.entry(hold=Time("90m"))
    def later() -> int:
        return 1

    @flow.step(later, hold=Schedule("0 2 * * *", "Europe/Vienna"))
    def at_night(n: int) -> int:
        return n

    run = flow.trial(start=datetime(2026, 7, 1, 12, tzinfo=UTC)).run()
    assert run.result == 1
    assert hours(run) == 12  # it was 14:00 in Vienna


def test_who_asks_is_told_of(flow: Flow):
    @flow.step(each("pay.asked"))
    def tell(asked: dict[str, Any], ctx: Context) -> None:
        ctx.state.set("mail", [asked["message"], asked["input"], bool(asked["token"])])

    @flow.entry(hold=Approval(Decision, message="Pay it?", notify=tell))
    def pay(amount: int, decision: Decision) -> int:
        return amount

    run = flow.trial().resolve("pay", {"ok": True}, after="1h").run(amount=5)
    assert run.state["mail"] == ["Pay it?", {"amount": 5}, True]
    assert run.result == 5, "who is only told makes no result"


def test_an_answer_may_be_made_from_what_is_asked(flow: Flow):
    @flow.entry(hold=Approval(str, message="What is the word?"))
    def ask(ctx: Context) -> str:
        return ctx.resolved

    assert flow.trial().resolve("ask", lambda asked: asked["message"].upper()).run().result == "WHAT IS THE WORD?"


def test_a_test_in_which_nobody_answers_says_so(flow: Flow):
    @flow.entry(hold=Approval(Decision, message="Pay it?"))
    def pay(decision: Decision) -> bool:
        return decision.ok

    with pytest.raises(CommandRefused, match=r"'pay' waits for approval: Pay it\?, and nobody answers"):
        flow.test()
    with pytest.raises(CommandRefused, match="is no Decision: ok is 'maybe'"):
        flow.trial().resolve("pay", {"ok": "maybe"}).run()
    with pytest.raises(DefinitionError, match="has no step 'pray'"):
        flow.trial().resolve("pray")


def test_a_deadline_ends_those_that_wait(flow: Flow):
    late = Flow(f"{flow.name}-late", deadline="1h")

    @late.entry(hold=OnEvent("never"))
    def wait() -> None: ...

    run = late.test()
    assert (run.status, run.view.tasks["wait"].status) == ("failed", "canceled")


def test_whoever_comes_first_wins_in_every_order(flow: Flow):
    @flow.entry
    def begin() -> list[int]:
        return [1, 2, 3]

    @flow.step(each(begin), hold=Approval(int, timeout="1h", on_timeout="continue"), hold_emits=Time("1m"))
    def ask(n: int, ctx: Context) -> Any:
        return n, ctx.resolved

    trial = flow.trial().resolve("ask[0]", 10, after="1h").resolve("ask[1]", 20, after="30m")
    assert trial.interleavings(100).result == [(1, 10), (2, 20), (3, None)]
