"""Schedules and triggers with real supervisors and workers: nobody but them fires. The clock is moved by moving what is due."""

from __future__ import annotations

import itertools
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbflow import Context, Flow, Trigger
from nbflow.app import current_default, use
from nbflow.errors import SignatureMismatch
from nbflow.model.timetable import Every
from nbflow.scheduling import Scheduled
from nbflow.watch.run import Run
from tests.bad_input import private_site
from tests.site import Site, Workers, wait_until

DAY = Every(24 * 3_600_000)


def make_due(site: Site, schedule: Scheduled, ago: int = 0) -> list[int]:
    """Let the day's occurrence, and so many before it, be undecided. They are, in order."""
    last = DAY.after_ms(int(time.time() * 1000)) - DAY.interval_ms
    due = [last - n * DAY.interval_ms for n in range(ago, -1, -1)]
    keys = site.nbflow.store.keys
    site.nbflow.store.client.hset(keys.schedule(schedule.flow, schedule.name), "next", due[0])
    site.nbflow.store.client.zadd(keys.schedules(), {f"{schedule.flow}:{schedule.name}": due[0]})
    return due


def runs_of(site: Site, flow: Flow) -> list[Run]:
    """In the order of their occurrences."""
    rows = sorted(site.nbflow.index.runs(flow=flow.name), key=lambda row: row.key)
    return [site.nbflow.run(row.id) for row in rows]


def decided(site: Site, schedule: Scheduled) -> bool:
    return site.nbflow.planned.get(schedule.flow, schedule.name).next_ms > time.time() * 1000


def works(flow: Flow) -> Flow:
    @flow.entry(name="work")
    def work(ctx: Context, n: int = 1, wait_s: float = 0.0) -> Any:
        time.sleep(wait_s)
        assert ctx.trigger is not None
        return n, ctx.trigger.type, ctx.trigger.name, ctx.trigger.scheduled_at

    return flow


def test_an_occurrence_is_started_by_whoever_watches(site: Site):
    flow = works(site.flow())
    schedule = flow.schedule("1d", name="daily", input={"n": 7})
    (due,) = make_due(site, schedule)
    wait_until(lambda: schedule.last)
    (run,) = runs_of(site, flow)
    n, kind, name, at = run.wait(20).result
    assert (n, kind, name, at.timestamp() * 1000) == (7, "schedule", "daily", due)
    assert run.version == 1


@pytest.mark.parametrize(("catch_up", "count"), [("latest", 1), ("all", 3), ("none", 0)])
def test_what_came_due_while_nobody_watched_is_caught_up_with(site: Site, catch_up: Any, count: int):
    flow = works(site.flow())
    schedule = flow.schedule("1d", overlap="allow", catch_up=catch_up)
    due = make_due(site, schedule, 2)
    wait_until(lambda: decided(site, schedule))
    runs = runs_of(site, flow)
    assert [run.wait(20).result[3].timestamp() * 1000 for run in runs] == due[len(due) - count :]


def test_skip_starts_nothing_while_the_run_before_goes_on(site: Site):
    flow = works(site.flow())
    schedule = flow.schedule("1d", overlap="skip", catch_up="all", input={"wait_s": 30})
    make_due(site, schedule, 2)
    wait_until(lambda: decided(site, schedule))
    (run,) = runs_of(site, flow)
    assert site.nbflow.planned.get(flow.name, "default").skipped == 2
    run.cancel()


def test_queue_starts_the_next_when_the_run_before_has_ended(site: Site):
    flow = works(site.flow())
    schedule = flow.schedule("1d", overlap="queue", catch_up="all", input={"wait_s": 0.2})
    make_due(site, schedule, 2)
    wait_until(lambda: decided(site, schedule))
    runs = runs_of(site, flow)
    assert [run.wait(30).status for run in runs] == ["completed"] * 3
    times = [(run.view.tasks["work"].last, run.view.ended_ms) for run in runs]
    for (_, ended), (task, _) in itertools.pairwise(times):
        assert task is not None
        assert (task.started_ms or 0) >= (ended or 0)
    assert [run.view.start.get("after") for run in runs] == [None, runs[0].id, runs[1].id]


def test_a_queued_run_is_awaiting_and_can_be_canceled(site: Site):
    flow = works(site.flow())
    schedule = flow.schedule("1d", overlap="queue", catch_up="all", input={"wait_s": 30})
    make_due(site, schedule, 1)
    wait_until(lambda: decided(site, schedule))
    first, second = runs_of(site, flow)
    assert second.status == "awaiting"
    second.cancel()
    first.cancel()
    assert [run.wait(20).status for run in (first, second)] == ["canceled", "canceled"]


def test_cancel_running_ends_the_run_before(site: Site):
    flow = works(site.flow())
    schedule = flow.schedule("1d", overlap="cancel_running", catch_up="all", input={"wait_s": 30})
    make_due(site, schedule, 2)
    wait_until(lambda: decided(site, schedule))
    runs = runs_of(site, flow)
    assert [run.wait(20).status for run in runs[:2]] == ["canceled", "canceled"]
    assert "next occurrence" in runs[0].view.end["reason"]
    wait_until(lambda: runs[2].view.steps and runs[2].status == "running")
    runs[2].cancel()


def test_a_trigger_that_was_changed_in_the_server_fails_the_step(site: Site):
    flow = works(site.flow(queue="nobody"))
    schedule = flow.schedule("1d")
    make_due(site, schedule)
    run = wait_until(lambda: schedule.last)
    store = site.nbflow.store
    forged = '{"type":"schedule","name":"other","scheduledAt":"2000-01-01T00:00:00Z"}'
    store.client.hset(store.keys.run(run.id), "trigger", forged)
    workers = site.start_workers(1, queues="nobody")
    try:
        run.wait(30)
    finally:
        workers.stop()
    assert run.status == "failed"
    assert "is not what was signed" in str(run.error)


def test_runs_that_go_on_from_it_were_started_by_the_same(site: Site):
    """Law: `ctx.trigger` is that of the first run, whichever way one goes on; and only what was signed is handed on."""
    flow = works(site.flow())
    schedule = flow.schedule("1d", name="daily")
    make_due(site, schedule)
    first = wait_until(lambda: schedule.last).wait(20)
    forked = first.fork(at=next(iter(first.follow())).id)
    again = [forked, first.restart(), first.resume(), forked.restart()]
    assert [run.wait(20).result for run in again] == [first.result] * 4
    assert {run.trigger for run in again} == {first.trigger}
    store = site.nbflow.store
    store.client.hset(store.keys.run(first.id), "trigger", '{"type":"schedule","name":"other"}')
    with pytest.raises(SignatureMismatch, match="What started the run"):
        first.restart()


def test_what_fired_and_was_left_is_started_by_whoever_watches(site: Site):
    """As if who emitted had died right after it."""
    flow = works(site.flow())
    topic, text, event = f"{flow.name}.paid", '{"n":7,"more":1}', uuid.uuid4().hex
    on = flow.on(Trigger("paid." + flow.name, event=topic))
    store, sig = site.nbflow.store, site.nbflow.signer.sign("event", event, topic, text, "")
    assert store.run_script("emit", topic=topic, payload=text, nonce=event, sig=sig) == [0, 0, 1]
    store.client.zadd(store.keys.firings(), {event: 0})  # ten seconds later
    run = wait_until(lambda: on.last)
    assert run.wait(20).result == (7, "event", on.name, None)
    on.remove()


def herald_of(workers: Workers) -> psutil.Process | None:
    children = psutil.Process(workers.process.pid).children()
    return next((child for child in children if child.cmdline()[-1:] == ["nbflow.firing"]), None)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Site, Workers]]:
    """A server and a supervisor of its own, whose processes may be killed."""
    before = current_default()
    with private_site(tmp_path) as site:
        use(site.nbflow)
        workers = site.start_workers(1)
        try:
            wait_until(lambda: site.living() == 1, what=workers.log.read_text)
            yield site, workers
        finally:
            workers.stop()
            use(before)


@pytest.mark.fault
def test_a_herald_that_is_killed_is_replaced(own: tuple[Site, Workers]):
    site, workers = own
    flow = works(site.flow())
    schedule = flow.schedule("1d", catch_up="all", overlap="allow")
    make_due(site, schedule)
    first = wait_until(lambda: decided(site, schedule) and herald_of(workers))
    first.kill()
    make_due(site, schedule, 1)
    wait_until(lambda: decided(site, schedule), what=workers.log.read_text)
    assert len({run.id for run in runs_of(site, flow)}) == 2
    assert herald_of(workers) != first


@pytest.mark.fault
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGKILL"])
def test_a_herald_ends_with_its_supervisor(own: tuple[Site, Workers], signal_name: str):
    site, workers = own
    flow = works(site.flow())
    schedule = flow.schedule("1d")
    assert herald_of(workers) is None  # nothing was due: there is none
    make_due(site, schedule)
    herald = wait_until(lambda: decided(site, schedule) and herald_of(workers))
    workers.process.send_signal(getattr(signal, signal_name))
    workers.process.wait(30)
    wait_until(lambda: not herald.is_running() or herald.status() == psutil.STATUS_ZOMBIE)
