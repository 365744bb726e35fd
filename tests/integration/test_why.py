"""Why is it not running? Each cause is provoked, and each has its one answer."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbflow import Concurrency, Flow, Rate, Retry, Time, each, failed
from nbflow.errors import CommandRefused
from nbflow.store.obstacles import Obstacles
from nbflow.watch.run import Run
from tests.site import Site, wait_until


@pytest.fixture
def lonely(site: Site) -> Iterator[Flow]:
    """A flow whose queue nobody serves."""
    flow = site.flow(queue="lonely")
    yield flow
    for row in site.nbflow.index.runs(flow=flow.name):
        if row.status in ("running", "awaiting"):
            site.nbflow.cancel(row.id)


def one_step(flow: Flow, **options: Any) -> None:
    @flow.entry(**options)
    def one() -> int:
        return 1


def says(run: Run, step: str, cause: str, *words: str) -> None:
    reason = run.reason(step)
    assert reason.cause == cause, reason
    assert [word for word in words if word not in reason.text] == [], reason.text


def as_alive(site: Site, worker: str, queue: str) -> None:
    """A worker that lives as far as the server knows, and does nothing."""
    keys, client = site.nbflow.store.keys, site.nbflow.store.client
    client.hset(keys.rq_worker(worker), mapping={"queues": queue, "state": "idle"})
    client.sadd("rq:workers", keys.rq_worker(worker))
    client.sadd(f"rq:workers:{queue}", keys.rq_worker(worker))
    client.zadd(keys.workers(), {worker: int(time.time() * 1000) + 600_000})


def test_nobody_serves_its_queue(site: Site, lonely: Flow) -> None:
    one_step(lonely)
    says(lonely.start(), "one", "no_worker", "no live worker serves the queue 'lonely'")


def test_its_queue_is_paused(site: Site, lonely: Flow) -> None:
    one_step(lonely)
    site.nbflow.pause("lonely")
    try:
        says(lonely.start(), "one", "paused", "'lonely' is paused", "nbflow queues resume lonely")
    finally:
        site.nbflow.resume("lonely")


def test_it_waits_behind_others(site: Site, lonely: Flow) -> None:
    one_step(lonely)
    as_alive(site, "idler", "lonely")
    try:
        runs = [lonely.start(), lonely.start(), lonely.start()]
        runs.append(lonely.options(priority=-5).start())
        says(runs[0], "one", "queued", "next in the queue 'lonely'", "1 live worker serves")
        says(runs[1], "one", "queued", "waits behind 1 other in")
        says(runs[3], "one", "queued", "waits behind 3 others in")
    finally:
        site.nbflow.store.run_script("giveback", worker="idler", cause="")


def test_a_limit_is_used_up(site: Site, tmp_path: Path) -> None:
    flow = site.flow()

    @flow.entry(concurrency=Concurrency(1))
    def hold(flag: Path) -> int:
        import time

        while not flag.exists():
            time.sleep(0.005)
        return 1

    holder = flow.start(flag=tmp_path / "flag")
    wait_until(lambda: holder.view.steps.get("hold") and holder.view.steps["hold"].status == "running")
    waiting = flow.start(flag=tmp_path / "flag")
    wait_until(lambda: waiting.reason("hold").cause == "limit", what=lambda: waiting.why("hold"))
    says(waiting, "hold", "limit", "concurrency of step 'hold', 1 at once", f"hold of run {holder.id[:8]}")
    says(holder, "hold", "running", "it is running on")
    (tmp_path / "flag").touch()
    waiting.wait(20, progress=False)
    says(waiting, "hold", "completed", "it completed")


def test_a_rate_is_used_up(site: Site) -> None:
    flow = site.flow()
    one_step(flow, rate=Rate(1, "1h"))
    flow.start().wait(20, progress=False)
    run = flow.start()
    wait_until(lambda: run.reason("one").cause == "rate", what=lambda: run.why("one"))
    says(run, "one", "rate", "1 in 3600 s, is used up until", "UTC")
    run.cancel("enough")
    wait_until(lambda: run.view.steps["one"].status == "canceled")
    says(run, "one", "canceled", "(enough)")


def test_it_is_tried_again_later(site: Site) -> None:
    flow = site.flow()

    @flow.entry(retry=Retry(2, backoff=3600))
    def broken() -> int:
        raise ValueError("the first time")

    @flow.step(broken)
    def after(n: int) -> int:
        return n

    run = flow.start()
    wait_until(lambda: run.view.steps.get("broken") and run.view.steps["broken"].status == "retrying")
    says(run, "broken", "retrying", "tried again at", "ValueError: the first time")
    says(run, "after", "waiting", "the result of step 'broken', which is retrying")
    run.cancel()


def test_it_is_held(site: Site) -> None:
    flow = site.flow()
    one_step(flow, hold=Time(3600))
    run = flow.start()
    says(run, "one", "held", "it waits for until")
    run.cancel()


def test_its_start_is_delayed(site: Site) -> None:
    flow = site.flow()
    one_step(flow)
    run = flow.options(delay="1h").start()
    says(run, "one", "delayed", "delayed until", "UTC")
    run.cancel("no need")
    says(run, "one", "ended", "canceled (no need)")


def test_it_failed_and_what_follows_is_skipped(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def broken() -> int:
        raise ValueError("no")

    @flow.step(broken)
    def after(n: int) -> int:
        return n

    @flow.step(failed(after))
    def never(failure: dict[str, Any]) -> int:
        return 1

    run = flow.start().wait(20, progress=False)
    says(run, "broken", "failed", "ValueError: no")
    says(run, "after", "skipped", "something before it failed")
    assert run.why("never") == "it is skipped: its branch was not taken"
    table = run.why()
    assert list(table["step"]) == ["broken", "after", "never"]
    assert list(table["cause"]) == ["failed", "skipped", "skipped"]


def test_of_a_step_that_there_is_not_it_says_so(site: Site) -> None:
    flow = site.flow()
    one_step(flow)
    with pytest.raises(CommandRefused, match=r"no step 'on'\. Did you mean 'one'"):
        flow.start().wait(20, progress=False).why("on")


def test_an_element_is_named_by_its_index_or_its_key_or_is_not_there(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def names() -> list[str]:
        return ["a", "b"]

    @flow.step(each(names), key=lambda name: f"{name}.csv")
    def parse(name: str) -> str:
        if name == "b":
            raise ValueError("torn")
        return name

    run = flow.start().wait(20, progress=False)
    assert run.why("parse[1]") == run.why("parse[b.csv]") == "it failed: ValueError: torn"
    assert run.why("parse[a.csv]") == "it completed"
    for wrong in ("parse[7]", "parse[c.csv]", "parse["):
        with pytest.raises(CommandRefused, match=r"The run has no task 'parse\["):
            run.why(wrong)


def test_a_worker_that_is_gone_and_a_time_that_is_over_when_nobody_attends(site: Site) -> None:
    """Nobody ticks: the reader sees it from the times."""

    class Dead(Obstacles):
        def now_ms(self) -> int:
            return super().now_ms() + 7_200_000

    flow = site.flow()

    @flow.entry(retry=Retry(2, backoff=3600))
    def broken() -> int:
        raise ValueError("no")

    @flow.entry
    def slow() -> int:
        import time

        time.sleep(60)
        return 1

    run = flow.start()
    wait_until(lambda: {step.status for step in run.view.steps.values()} == {"retrying", "running"})
    from nbflow.watch.why import reason_of

    late = Dead(site.nbflow.store)
    assert reason_of(run.view, run.picture, late, "slow").cause == "lost"
    assert reason_of(run.view, run.picture, late, "broken").cause == "overdue"
    run.cancel()


def test_no_worker_can_open_the_code_until_one_comes_that_can(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task waits, uncounted, for a worker that has the package; the one that lacks it goes on with other code."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "nbflow_test_rare.py").write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(str(packages))
    import nbflow_test_rare  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    flow, plain = site.flow(queue="rare"), site.flow(queue="rare")

    @flow.entry
    def ask() -> int:
        return nbflow_test_rare.answer()

    one_step(plain)
    poor = site.start_workers(1, queues="rare")
    rich = None
    try:
        run = flow.start()
        wait_until(lambda: run.reason("ask").cause == "cannot_open", what=lambda: run.why("ask"))
        says(run, "ask", "cannot_open", "no worker of the queue 'rare' can open its code", "'nbflow_test_rare'")
        assert plain.start().wait(20, progress=False).result == 1
        assert run.view.tasks["ask"].attempts[-1].recovered == 0
        rich = site.start_workers(1, queues="rare", PYTHONPATH=str(packages))
        assert run.wait(30, progress=False).result == 42
        starts = [event for event in run.follow() if event.type == "step.started"]
        assert len(starts) == 2, "one that could not, one that could: no loop"
    finally:
        poor.stop()
        if rich is not None:
            rich.stop()
        del sys.modules["nbflow_test_rare"]


def test_suspended_rq_is_named(site: Site, lonely: Flow) -> None:
    """Last, and for a moment only: it stops all workers of the server."""
    one_step(lonely)
    run = lonely.start()
    site.nbflow.store.client.set("rq:suspended", 1)
    stop = threading.Timer(30, lambda: site.nbflow.store.client.delete("rq:suspended"))
    stop.start()
    try:
        says(run, "one", "suspended", "RQ is suspended")
    finally:
        stop.cancel()
        site.nbflow.store.client.delete("rq:suspended")


def test_a_run_on_a_paused_queue_says_that_it_is_stalled_and_that_it_goes_on(site: Site, tmp_path: Path) -> None:
    flow, gate = site.flow(stall_after=0.2), tmp_path / "gate"

    @flow.entry
    def wait(gate: Path) -> str:
        import time

        while not gate.exists():
            time.sleep(0.01)
        return "done"

    site.nbflow.pause("default")
    try:
        run = flow.start(gate=gate)
        wait_until(lambda: run.view.stalled, what=lambda: run.events["type"])
        assert run.stalled == "the queue 'default' is paused (`nbflow queues resume default` ends that)"
        assert run.id in list(site.nbflow.runs(flow.name, stalled=True)["id"])
    finally:
        site.nbflow.resume("default")
    wait_until(lambda: "flow.recovered" in list(run.events["type"]), what=lambda: run.events["type"])
    assert run.stalled is None
    gate.touch()
    assert run.wait(20, progress=False).result == "done"
    told = [event.data for event in run.follow() if event.type in ("flow.stalled", "flow.recovered")]
    assert told == [{"cause": "paused", "queue": "default"}] * 2
