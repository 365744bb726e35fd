"""Held tasks on real workers: what a step receives of its answer, what is refused, and who wins."""

from __future__ import annotations

import threading
from datetime import date
from typing import Any, Literal

import pydantic
import pytest

import nbflow as nf
from nbflow import Approval, Context, OnEvent, Retry, Schedule, Time, Webhook, each, received
from nbflow.engine.awaits import answer, question_of, token_of
from nbflow.errors import AlreadyAnswered, CommandRefused, PayloadError, RunEnded, SignatureMismatch, UnknownRun
from nbflow.watch.run import Run
from tests.leaks import leaks
from tests.site import Site, wait_until


class Decision(pydantic.BaseModel):
    ok: bool
    by: date | None = None
    limit: int = pydantic.Field(default=0, ge=0)


def awaiting(run: Run, task: str) -> Any:
    """The wait of a task, when it has come to that."""
    return wait_until(lambda: (found := run.view.tasks.get(task)) and found.awaiting, what=lambda: str(run.tasks))


def test_an_approval_reaches_the_parameter_that_is_annotated_with_its_model(site: Site):
    flow = site.flow()

    @flow.entry
    def order(total: int) -> dict[str, int]:
        return {"total": total}

    @flow.step(order, hold=Approval(Decision, message="Pay it?"))
    def pay(order: dict[str, int], decision: Decision, ctx: Context) -> Any:
        return order["total"], decision.ok, decision.by, type(decision).__name__, ctx.resolved is decision

    run = flow.start(total=300)
    told = awaiting(run, "pay")
    assert run.status == "awaiting"
    assert told["input"] == {"total": 300}
    assert set(told["form"]["properties"]) == {"ok", "by", "limit"}
    assert run.tasks.set_index("task").loc["pay", "waits_for"] == "approval: Pay it?"
    run.resolve("pay", {"ok": True, "by": "2026-11-24"})
    assert run.wait(20, progress=False).result == (300, True, date(2026, 11, 24), "Decision", True)
    resolved = next(event for event in run.follow() if event.type == "await.resolved")
    assert resolved.data["by"].keys() >= {"user", "host"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"ok": "perhaps"}, "ok is 'perhaps'"),
        ({}, "lacks 'ok', which Decision needs"),
        (None, "is no Decision"),
        ({"ok": True, "limit": -1}, "limit is -1"),
    ],
)
def test_an_answer_that_does_not_validate_is_refused_and_changes_nothing(site: Site, data: Any, said: str):
    flow = site.flow()

    @flow.entry(hold=Approval(Decision))
    def pay(decision: Decision) -> bool:
        return decision.ok

    run = flow.start()
    awaiting(run, "pay")
    before = run.view.events
    with pytest.raises(CommandRefused, match=said):
        run.resolve("pay", data)
    assert run.view.events == before
    assert run.resolve(pay, Decision(ok=False)).wait(20, progress=False).result is False


def test_what_the_answer_names_must_be_there_and_wait(site: Site):
    flow = site.flow()

    @flow.entry
    def begin() -> list[int]:
        return [1, 2]

    @flow.step(each(begin), key=lambda n: f"n{n}", hold=Approval(bool))
    def ask(n: int, ctx: Context) -> Any:
        return n, ctx.resolved

    run = flow.start()
    awaiting(run, "ask[1]")
    with pytest.raises(CommandRefused, match=r"2 tasks of 'ask' wait for an answer\. Name one: ask\[0\], ask\[1\]"):
        run.resolve("ask", True)
    with pytest.raises(CommandRefused, match="Did you mean 'ask'"):
        run.resolve("asks", True)
    with pytest.raises(AlreadyAnswered, match="'begin' waits for no answer: it is completed"):
        run.resolve("begin", True)
    run.resolve("ask[n2]", False)
    with pytest.raises(AlreadyAnswered, match=r"'ask\[1\]' waits for no answer"):
        run.resolve("ask[n2]", True)
    run.resolve("ask", True)  # only one waits now
    assert run.wait(20, progress=False).result == [(1, True), (2, False)]
    with pytest.raises(RunEnded, match="is completed"):
        run.resolve("ask[0]", True)


def test_of_many_who_answer_at_once_exactly_one_wins_and_the_others_are_told(site: Site):
    flow = site.flow()

    @flow.entry(hold=Approval(int, timeout=3600))
    def ask(ctx: Context) -> int:
        return ctx.resolved

    run = flow.start()
    awaiting(run, "ask")
    won, told = list[int](), list[str]()
    start = threading.Barrier(8)

    def say(number: int) -> None:
        mine = site.nbflow.run(run.id)
        assert mine.view.tasks["ask"].awaiting
        start.wait()
        try:
            mine.resolve("ask", number)
            won.append(number)
        except (AlreadyAnswered, RunEnded) as error:
            told.append(str(error))

    people = [threading.Thread(target=say, args=(number,)) for number in range(8)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len(won) == 1
    assert len(told) == 7
    assert run.wait(20, progress=False).result == won[0]


def test_what_is_held_after_its_attempt_is_shown_when_it_is_answered(site: Site):
    flow = site.flow()

    @flow.entry(hold_emits=Approval(message="Publish?"), emits=["made"])
    def make() -> int:
        return 42

    @flow.step("made")
    def use(n: int) -> int:
        return n + 1

    run = flow.start()
    assert awaiting(run, "make")["held"]["result"] == {"$emit": "made"}
    assert run.status == "awaiting"
    assert "use" not in run.view.steps
    run.resolve("make")
    assert run.wait(20, progress=False).result == 43
    assert run["make"] == 42


def test_a_time_and_a_schedule_end_by_themselves(site: Site):
    flow = site.flow()

    @flow.entry(hold=Time("200ms"))
    def begin(ctx: Context) -> Any:
        return ctx.resolved

    @flow.step(begin, hold=Schedule("* * * * * *", "Europe/Vienna"))
    def then(nothing: None) -> str:
        return "done"

    assert flow.start().wait(30, progress=False).result == "done"


def test_an_event_lets_go_on_whom_it_matches(site: Site):
    flow, topic = site.flow(), "paid"
    topic = f"{topic}.{flow.name}"

    @flow.entry
    def orders() -> list[dict[str, Any]]:
        return [{"id": 1}, {"id": 2}]

    @flow.step(each(orders), hold=OnEvent(topic, match={"order.id": received("id")}))
    def ship(order: dict[str, Any], ctx: Context) -> Any:
        return order["id"], ctx.resolved["sum"]

    run = flow.start()
    awaiting(run, "ship[1]")
    assert run.view.tasks["ship[1]"].waits_for == f"event {topic} with order.id=its id"
    assert nf.emit(topic, {"order": {"id": 3}, "sum": 0}) == 0
    assert nf.emit(topic, {"order": {"id": 2}, "sum": 7}) == 1
    assert nf.emit(topic, {"order": {"id": 1}, "sum": 8}) == 1
    assert run.wait(20, progress=False).result == [(1, 8), (2, 7)]


def test_an_event_that_a_step_itself_causes_is_not_missed(site: Site):
    """The other program may be faster than the end of the step."""
    flow = site.flow()
    topic = f"answer.{flow.name}"

    @flow.entry(hold_emits=OnEvent(topic, lookback="1m"), emits=["called"])
    def call(ctx: Context) -> str:
        ctx.state.set("called", True)
        while not ctx.state.get("answered"):
            pass
        return "called"

    @flow.step("called")
    def after(what: str) -> str:
        return what

    @flow.entry
    def other(ctx: Context) -> None:
        while not ctx.state.get("called"):
            pass
        ctx.state.set("ready", True)
        while not ctx.state.get("answered"):
            pass

    run = flow.start()
    wait_until(lambda: run.state.get("ready"), what=lambda: str(run.tasks))
    nf.emit(topic, 1)
    job: Any = site.nbflow.store.client
    job.hset(site.nbflow.store.keys.state(run.id), "answered", "true")
    assert run.wait(20, progress=False).status == "completed"


@pytest.mark.parametrize(("action", "status"), [("fail", "failed"), ("continue", "completed"), ("retry", "failed")])
def test_what_nobody_answers_ends_as_it_says(site: Site, action: Literal["fail", "continue", "retry"], status: str):
    flow = site.flow()

    @flow.entry(hold=Approval(Decision, timeout=0.05, on_timeout=action), retry=Retry(2, backoff=0))
    def ask(decision: Decision | None) -> Any:
        return decision

    run = flow.start().wait(30, progress=False)
    assert run.status == status
    asked = sum(event.type == "await.registered" for event in run.follow())
    assert asked == (2 if action == "retry" else 1)
    if status == "failed":
        assert "nobody answered within the timeout" in str(run.error)
        assert run.attempts.iloc[-1]["reason"] == "await_timeout"


def test_who_is_to_be_told_runs_in_the_flow_with_the_token(site: Site):
    flow = site.flow()

    @flow.step(each("pay.asked"))
    def tell(asked: dict[str, Any], ctx: Context) -> None:
        ctx.state.set("asked", asked)

    @flow.entry(hold=Approval(Decision, message="Pay?", notify=tell))
    def pay(amount: int, decision: Decision) -> int:
        return amount if decision.ok else 0

    run = flow.start(amount=5)
    asked = wait_until(lambda: run.state.get("asked"), what=lambda: str(run.tasks))
    assert (asked["message"], asked["input"], asked["task"]) == ("Pay?", {"amount": 5}, "pay")
    of, question = question_of(site.nbflow.store, site.nbflow.signer, asked["token"])
    assert (of, question.task) == (run.id, "pay")
    by: dict[str, Any] = {"webhook": True}
    answer(site.nbflow.store, site.nbflow._codecs, of, question, {"ok": True}, by=by)
    assert run.wait(20, progress=False).result == 5
    with pytest.raises(AlreadyAnswered):
        question_of(site.nbflow.store, site.nbflow.signer, asked["token"])


@pytest.mark.parametrize("held", ["hold", "hold_emits"])
def test_of_a_wait_that_a_resume_asks_again_is_told_again(site: Site, held: str):
    """Law: an open wait is another one in the new run, with another token; one that was answered is neither asked nor told."""
    flow = site.flow()

    @flow.step(each("pay.asked"))
    def tell(asked: dict[str, Any], ctx: Context) -> None:
        ctx.state.set(asked["run"], asked["token"])

    keywords: dict[str, Any] = {held: Approval(Decision, notify=tell)}

    @flow.entry(**keywords)
    def pay(amount: int) -> int:
        return amount

    first = flow.start(amount=5)
    wait_until(lambda: first.state, what=lambda: str(first.tasks))
    first.cancel()
    again = first.resume()
    wait_until(lambda: again.id in again.state, what=lambda: str(again.tasks))
    assert again.state.keys() == {first.id, again.id}, "the state goes along"
    assert again.state[again.id] != again.state[first.id]
    with pytest.raises(AlreadyAnswered):
        question_of(site.nbflow.store, site.nbflow.signer, again.state[first.id])
    assert question_of(site.nbflow.store, site.nbflow.signer, again.state[again.id])[0] == again.id
    again.resolve("pay", {"ok": True})
    assert again.wait(20, progress=False).result == 5
    last = again.resume().wait(20, progress=False)
    assert (last.result, last.view.steps["tell"].skipped) == (5, "not_taken")


def test_a_token_is_only_good_if_we_made_it(site: Site):
    flow = site.flow()

    @flow.entry(hold=Webhook())
    def wait(ctx: Context) -> Any:
        return ctx.resolved

    run, store, signer = flow.start(), site.nbflow.store, site.nbflow.signer
    token: str = awaiting(run, "wait")["token"]
    of, question = question_of(store, signer, token)
    signature = str(store.text.hget(store.keys.run(run.id), "sig"))
    assert token_of(signature, of, question) == token
    for wrong in (token[:-1], f"{token[:-2]}00", token.replace(".before.", ".after."), f"{run.id}...", "", "a.b"):
        with pytest.raises((SignatureMismatch, UnknownRun)):
            question_of(store, signer, wrong)
    run.cancel()
    with pytest.raises(AlreadyAnswered):
        question_of(store, signer, token)


def test_an_answer_that_somebody_changes_in_the_server_reaches_no_step(site: Site):
    flow = site.flow()

    @flow.entry(hold=Approval(Decision), queue=f"q-{site.flow().name}")
    def pay(decision: Decision) -> bool:
        return decision.ok

    run, store = flow.start(), site.nbflow.store
    awaiting(run, "pay")
    run.resolve("pay", {"ok": False})
    store.client.hset(f"{store.keys.namespace}:resolved:{run.id}", "pay", '{"ok":"yes, please"}')
    workers = site.start_workers(1, queues=flow.spec().steps[0].queue)
    try:
        assert run.wait(30, progress=False).status == "failed"
        assert run.attempts.iloc[-1]["reason"] == "invalid_input"
    finally:
        workers.stop()


def test_an_event_travels_whole_or_not_at_all(site: Site):
    with pytest.raises(PayloadError, match="longer than 64 KiB"):
        nf.emit("big", "x" * 70_000)
    with pytest.raises(CommandRefused, match="No event has the topic 'not a topic'"):
        nf.emit("not a topic")
    with pytest.raises(PayloadError):
        nf.emit("lock", threading.Lock())


def test_a_canceled_run_waits_for_nothing(site: Site):
    flow = site.flow()
    topic = f"never.{flow.name}"

    @flow.entry(hold=OnEvent(topic, timeout=3600))
    def wait() -> None: ...

    run = flow.start()
    awaiting(run, "wait")
    run.cancel("enough")
    assert run.view.tasks["wait"].status == "canceled"
    assert nf.emit(topic) == 0
    with pytest.raises(RunEnded, match="canceled"):
        run.resolve("wait")
    store = site.nbflow.store
    assert [leak for leak in leaks(store) if run.id in leak] == []
