"""What in-process runs promise at their edges: time limits, threads, streams, limits of runs, crashes and their answers."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from nbflow import Context, Flow, Retry, any_of, collect, each, failed
from nbflow.define.world import active_world
from nbflow.errors import CommandRefused, DefinitionError, PayloadError, UnknownRun
from nbflow.flow import LaunchDisabled, launches_disabled
from nbflow.model.events import Event
from nbflow.watch.run import Run
from tests.sums import sums


@pytest.fixture
def flow() -> Flow:
    return Flow(f"t{uuid.uuid4().hex[:10]}")


def _events(run: Run) -> list[Event]:
    return list(run.follow())


# -- time ---------------------------------------------------------------------------------------------------------------


def test_what_really_takes_too_long_is_interrupted_and_the_timer_of_the_test_runner_goes_on(flow: Flow) -> None:
    @flow.entry(timeout="50ms")
    def slow() -> None:
        time.sleep(30)

    handler, (left_s, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    run = flow.test()
    assert run.view.tasks["slow"].attempts[0].reason == "timeout"
    assert signal.getsignal(signal.SIGALRM) == handler
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= left_s


def test_where_it_cannot_be_interrupted_it_fails_afterwards(flow: Flow) -> None:
    @flow.entry(timeout="10ms")
    def slow() -> None:
        time.sleep(0.05)

    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(flow.test()))
    thread.start()
    thread.join()
    assert runs[0].view.tasks["slow"].attempts[0].reason == "timeout"


def test_the_clock_begins_where_one_says_and_stands_while_steps_run(flow: Flow) -> None:
    begin = datetime(2030, 5, 1, tzinfo=UTC)
    run = sums(flow).trial(start=begin).run()
    assert {event.ts for event in _events(run)} == {begin}


def test_jitter_is_drawn_from_the_seed(flow: Flow) -> None:
    @flow.entry(retry=Retry(2, backoff="1h", jitter=True))
    def flaky(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return 1

    def delay(seed: int) -> int:
        return next(event.data["delay"] for event in _events(flow.trial(seed=seed).run()) if event.type == "step.retry")

    assert delay(1) == delay(1) != delay(2)


# -- the same seed, the same run ----------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_events_to_the_letter(flow: Flow) -> None:
    trial = sums(flow).trial(seed=3, crashes=0.3)
    assert _events(trial.run(n=6)) == _events(trial.run(n=6))


def test_a_generator_in_place_of_a_seed_is_drawn_from(flow: Flow) -> None:
    first, second = (sums(flow).trial(seed=random.Random(5), crashes=0.3).run(n=6) for _ in range(2))
    assert _events(first) == _events(second)


def test_tasks_overlap_on_as_many_workers_as_one_says(flow: Flow) -> None:
    def most_at_once(workers: int) -> int:
        under_way, most = 0, 0
        for event in _events(sums(flow).trial(seed=1, workers=workers).run(n=12)):
            under_way += {"step.started": 1, "step.completed": -1}.get(event.type, 0)
            most = max(most, under_way)
        return most

    assert [most_at_once(workers) for workers in (1, 2, 3)] == [1, 2, 3]


def test_without_a_seed_a_higher_priority_goes_first(flow: Flow) -> None:
    @flow.entry(emits=["a", "b"])
    def split(ctx: Context) -> None:
        ctx.emit("a")
        ctx.emit("b")

    @flow.step("a")
    def later(a: None) -> None: ...

    @flow.step("b", priority=5)
    def sooner(b: None) -> None: ...

    started = [event.task for event in _events(flow.test()) if event.type == "step.started"]
    assert started == ["split", "sooner", "later"]


# -- crashes ------------------------------------------------------------------------------------------------------------


def test_what_an_execution_said_before_its_crash_stays_and_what_it_emitted_does_not(flow: Flow) -> None:
    @flow.entry(emits=["more"])
    def emits(ctx: Context) -> None:
        ctx.log.info("here")
        ctx.emit_each("more", [1, 2])

    @flow.step(each("more"))
    def same(n: int) -> int:
        return n

    run = flow.trial().crash("emits", times=2).run()
    assert list(run.logs["message"]) == ["here"] * 3
    assert run.result == [1, 2]
    assert [event.type for event in _events(run)].count("emit") == 1


def test_a_lost_task_is_answered_for_like_a_failed_one(flow: Flow) -> None:
    @flow.entry
    def numbers() -> list[int]:
        return [1, 2]

    @flow.step(each(numbers), key=str, emits=["deep"])
    def twice(n: int, ctx: Context) -> None:
        ctx.emit_each("deep", [n, n])

    @flow.step(each("deep"))
    def same(n: int) -> int:
        return n

    @flow.step(each(failed(same)))
    def excuse(failure: dict[str, Any]) -> Any:
        return failure["index"], failure["key"], failure["input"], failure["error"]

    run = flow.trial().crash("same[1.0]", times=4).run()
    assert run.status == "completed"
    why = "the worker died 4 times while it ran (last: a simulated crash)"
    assert list(run["excuse"]) == [((1, 0), None, None, why)]


def test_a_step_that_crashes_crashes_in_each_of_its_tasks(flow: Flow) -> None:
    run = sums(flow).trial(seed=1).crash("double").run(n=3)
    assert run.result == 6
    assert list(run.attempts["recovered"].fillna(0)) == [0, 1, 1, 1, 0]


def test_random_crashes_never_lose_a_task(flow: Flow) -> None:
    assert sums(flow).trial(seed=1, crashes=1.0).run(n=4).result == 12


def test_a_step_that_is_not_there_is_named(flow: Flow) -> None:
    with pytest.raises(DefinitionError, match="'doubel'") as caught:
        sums(flow).trial().crash("doubel[1]")
    assert "double" in caught.value.hint
    with pytest.raises(DefinitionError, match="'nothing'"):
        sums(flow).trial().replace("nothing", len)


# -- ends ---------------------------------------------------------------------------------------------------------------


def test_the_first_failure_cancels_what_is_under_way() -> None:
    flow = Flow(f"t{uuid.uuid4().hex[:10]}", on_failure="cancel")

    @flow.entry
    def numbers() -> list[int]:
        return [0, 1, 2]

    @flow.step(each(numbers))
    def inverse(n: int) -> float:
        return 1 / n

    @flow.step(collect(inverse))
    def together(values: list[float]) -> int:
        return 1

    run = flow.trial(seed=2).run()
    assert (run.status, run.view.end["reason"], run.view.end["failedStep"]) == ("failed", "step", "inverse")
    assert {task.status for task in run.view.tasks.values()} == {"completed", "failed", "canceled"}


def test_a_map_that_grows_without_end_is_stopped() -> None:
    flow = Flow(f"t{uuid.uuid4().hex[:10]}", max_tasks=20)

    @flow.entry(emits=["more"])
    def begin(ctx: Context) -> None:
        ctx.emit("more", 0)

    @flow.step(each("more"), emits=["more"])
    def breed(n: int, ctx: Context) -> None:
        ctx.emit("more", n + 1)
        ctx.emit("more", n + 1)

    run = flow.test()
    assert (run.status, run.view.end["reason"]) == ("failed", "max_tasks")


def test_ctrl_c_is_the_persons_and_not_the_steps(flow: Flow) -> None:
    @flow.entry
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flow.test()
    assert active_world() is None


# -- the process is left as it was --------------------------------------------------------------------------------------


def test_streams_logging_and_modules_are_what_they_were(flow: Flow) -> None:
    root = logging.getLogger()
    before = sys.stdout, sys.stderr, list(root.handlers), root.level, sys.modules["__main__"]
    sums(flow).test()
    assert (sys.stdout, sys.stderr, list(root.handlers), root.level, sys.modules["__main__"]) == before
    assert active_world() is None


def test_a_thread_that_outlives_its_task_tells_nothing_more(flow: Flow) -> None:
    @flow.entry
    def leaves_a_thread(ctx: Context) -> None:
        import threading
        import time

        def late() -> None:
            while not ctx.canceled:
                time.sleep(0.001)
            ctx.log.info("late")

        threading.Thread(target=late, name="late").start()

    run = flow.test()
    for thread in threading.enumerate():
        if thread.name == "late":
            thread.join()
    assert list(run.logs["message"]) == []


def test_async_steps_run_where_a_loop_runs_already(flow: Flow) -> None:
    @flow.entry
    async def later() -> int:
        import asyncio

        await asyncio.sleep(0)
        return 3

    async def in_a_notebook() -> Any:
        return flow.test().result

    assert asyncio.run(in_a_notebook()) == 3
    assert flow.test().result == 3


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_an_input_that_cannot_travel_is_refused(flow: Flow) -> None:
    @flow.entry
    def takes(what: Any) -> None: ...

    with pytest.raises(PayloadError, match="input"):
        flow.test(what=threading.Lock())


def test_a_flow_that_cannot_start_is_refused(flow: Flow) -> None:
    @flow.step("nobody.emits")
    def never(n: int) -> None: ...

    with pytest.raises(DefinitionError):
        flow.test()


def test_where_flows_are_only_read_none_is_run(flow: Flow) -> None:
    with launches_disabled(), pytest.raises(LaunchDisabled):
        sums(flow).test()


def test_state_takes_json_and_adds_numbers_only(flow: Flow) -> None:
    @flow.entry
    def counts(ctx: Context) -> Any:
        ctx.state.set("name", "x")
        ctx.state.set("gone", 1)
        ctx.state.delete("gone")
        told: list[Any] = [
            ctx.state.incr("n", 0.1),
            ctx.state.incr("n", 0.2),
            ctx.state.incr("m"),
            ctx.state.incr("m", 2),
        ]
        try:
            ctx.state.incr("name")
        except CommandRefused as error:
            told.append(str(error))
        return told, ctx.state.all(), ctx.state.get("nothing", 7)

    told, state, missing = flow.test().result
    assert told[:4] == [0.1, 0.3, 1, 3]
    assert "no number" in told[4]
    assert (state, missing) == ({"name": "x", "n": 0.3, "m": 3}, 7)


def test_another_run_is_not_known_by_the_handle_of_this_one(flow: Flow) -> None:
    run = sums(flow).test()
    with pytest.raises(UnknownRun):
        list(run._log.read("another"))
    with pytest.raises(CommandRefused):
        run.artifact("nothing")


def test_the_bodies_of_a_trial_are_those_of_its_first_run(flow: Flow) -> None:
    trial = sums(flow).trial()
    assert trial.run().result == 6

    @flow.step(each("step:numbers"), name="double")
    def again(n: int) -> int:
        return 0

    assert trial.run().result == 6
    assert flow.test().result == 0


def test_any_of_is_satisfied_once_in_every_order(flow: Flow) -> None:
    @flow.entry(emits=["a", "b"])
    def split(ctx: Context) -> None:
        ctx.emit("a", 1)
        ctx.emit("b", 1)

    @flow.step("a")
    def left(a: int) -> int:
        return a

    @flow.step("b")
    def right(b: int) -> int:
        return b

    @flow.step(any_of(left, right))
    def first(what: tuple[str, int]) -> int:
        return what[1]

    assert flow.trial(crashes=0.2).interleavings(40).result == 1
