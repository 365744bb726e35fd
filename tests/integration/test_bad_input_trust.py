"""What was not signed by us, or changed since, or cannot be opened here, executes nothing and says why."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbflow import Context, Flow
from nbflow.app import Nbflow
from nbflow.define import bundle
from nbflow.define.envelope import PYTHON
from nbflow.model.artifacts import digest_of
from nbflow.watch.run import Run
from tests.bad_input import failure_of, private_site
from tests.site import Site, Workers, wait_until


class Touch:
    """Opened by pickle, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return subprocess.check_call, ([sys.executable, "-c", f"open({str(self.path)!r}, 'w')"],)


class Waiting:
    """A run of one step on a queue without workers; the step leaves a mark when it is executed."""

    def __init__(self, site: Site, folder: Path, nbflow: Nbflow | None = None) -> None:
        self.site, self.mark = site, folder / "executed"
        self.text: Any = site.nbflow.store.text
        self.flow = site.flow()
        self.queue = self.flow.name

        @self.flow.entry(queue=self.queue)
        def touch(mark: Path, n: int = 1) -> int:
            mark.touch()
            return n

        self.run: Run = self.flow.options(on=nbflow or site.nbflow).start(mark=self.mark)
        self.hash = site.nbflow.store.keys.run(self.run.id)

    def change(self, **fields: str) -> None:
        self.text.hset(self.hash, mapping=fields)

    def field(self, name: str) -> str:
        return str(self.text.hget(self.hash, name))

    def fails(self, *words: str) -> None:
        with working(self.site, self.queue):
            failure_of(self.run, *words)
        assert not self.mark.exists()


@contextmanager
def working(site: Site, queue: str) -> Generator[Workers]:
    """One worker on the queue, that is there at the end as it was at the beginning."""
    workers = site.start_workers(1, queues=queue)
    try:
        yield workers
        assert "ended" not in workers.log.read_text(), workers.log.read_text()
        assert "Traceback" not in workers.log.read_text(), workers.log.read_text()
    finally:
        assert workers.stop() == 0


@pytest.fixture
def waiting(site: Site, tmp_path: Path) -> Waiting:
    return Waiting(site, tmp_path)


# -- runs and code --------------------------------------------------------------------------------------------------------


def test_a_run_without_a_signature_is_not_executed(waiting: Waiting) -> None:
    waiting.change(sig="")
    waiting.fails("BundleUnsigned", waiting.run.id[:8], "carries no signature")


def test_a_run_signed_with_another_secret_is_not_executed(site: Site, tmp_path: Path) -> None:
    with Nbflow(site.server.url, secret="quite another secret", project=tmp_path) as stranger:
        other = Waiting(site, tmp_path, stranger)
        other.fails("SignatureMismatch", other.run.id[:8], "this worker's secret", "NBFLOW_SECRET")


def test_changed_input_is_not_executed(waiting: Waiting) -> None:
    waiting.change(input=waiting.field("input").replace('"n":1', '"n":1000'))
    assert "1000" in waiting.field("input")
    waiting.fails("SignatureMismatch", "input", waiting.run.id[:8], "not the one that was signed")


@pytest.mark.parametrize("field", ["inputdigest", "flow"])
def test_a_changed_run_is_not_executed(waiting: Waiting, field: str) -> None:
    waiting.change(**{field: "0" * 64})
    waiting.fails("SignatureMismatch", waiting.run.id[:8], "changed since")


def test_code_that_was_replaced_is_not_opened(waiting: Waiting, tmp_path: Path) -> None:
    keys = waiting.site.nbflow.store.keys
    waiting.site.nbflow.store.client.set(keys.bundle(waiting.field("bundle")), pickle.dumps(Touch(tmp_path / "opened")))
    waiting.fails("SignatureMismatch", waiting.field("bundle")[:8], "bytes have changed")
    assert not (tmp_path / "opened").exists()


def test_code_that_is_gone_is_said(waiting: Waiting) -> None:
    waiting.site.nbflow.store.client.delete(waiting.site.nbflow.store.keys.bundle(waiting.field("bundle")))
    waiting.fails("InternalError", waiting.field("bundle"), "not in the store")


def test_code_of_another_python_is_not_opened(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bundle.header_of
    monkeypatch.setattr(bundle, "header_of", lambda *told: replace(real(*told), python="3.4"))
    old = Waiting(site, tmp_path)
    with working(site, old.queue):  # the task waits for a worker of that Python
        wait_until(lambda: old.run.reason("touch").cause == "cannot_open", what=lambda: old.run.why("touch"))
        told = old.run.why("touch")
    assert not old.mark.exists()
    assert [word for word in (old.flow.name, "Python 3.4", f"this is {PYTHON}") if word not in told] == [], told
    old.run.cancel()


def test_what_changes_after_a_run_was_verified_once_is_seen(site: Site, tmp_path: Path) -> None:
    """Law: a verified run is not trusted for good; a later task of it, on the same worker, is verified as it is then."""
    flow, gate, begun, mark = site.flow(), tmp_path / "gate", tmp_path / "begun", tmp_path / "mark"
    queue = flow.name

    @flow.entry(queue=queue)
    def first(gate: Path, begun: Path) -> None:
        import time

        begun.touch()
        while not gate.exists():
            time.sleep(0.01)

    @flow.entry(queue=queue)
    def second(mark: Path) -> None:
        mark.touch()

    with working(site, queue):
        run = flow.start(gate=gate, begun=begun, mark=mark)
        wait_until(begun.exists)
        store: Any = site.nbflow.store
        text = str(store.text.hget(store.keys.run(run.id), "input")).replace("/mark", "/other")
        changed = {"input": text, "inputdigest": hashlib.sha256(text.encode()).hexdigest()}
        store.text.hset(store.keys.run(run.id), mapping=changed)
        gate.touch()
        failure_of(run, "SignatureMismatch", "changed since")
    assert not mark.exists()
    assert not (tmp_path / "other").exists()


def test_input_that_changed_is_not_given_to_a_step_that_asks_for_it(site: Site, tmp_path: Path) -> None:
    flow, gate, begun = site.flow(), tmp_path / "gate", tmp_path / "begun"

    @flow.entry
    def ask(gate: Path, begun: Path, ctx: Context) -> Any:
        import time

        begun.touch()
        while not gate.exists():
            time.sleep(0.01)
        return ctx.input

    run = flow.start(gate=gate, begun=begun)
    wait_until(begun.exists)
    site.nbflow.store.text.hset(site.nbflow.store.keys.run(run.id), "input", '{"gate":1,"begun":2}')
    gate.touch()
    failure_of(run, "SignatureMismatch", "input", "not the one that was signed")


# -- payloads -------------------------------------------------------------------------------------------------------------


def _with_a_pickle(site: Site, gate: Path) -> tuple[Flow, Run, str]:
    """A run in which `take` is about to receive a pickle, on a queue without workers; and the pickle's digest."""
    flow = site.flow()

    @flow.entry
    def make() -> Any:
        import re

        return re.compile("a+")

    @flow.step(make, queue=flow.name)
    def take(pattern: Any) -> str:
        return str(pattern)

    run = flow.start()
    wait_until(lambda: run.view.tasks.get("take"), what=lambda: run.events)
    (digest,) = site.nbflow.store.text.smembers(site.nbflow.store.keys.owned(run.id))
    return flow, run, str(digest)


def test_a_pickle_that_was_replaced_is_not_opened(site: Site, tmp_path: Path) -> None:
    flow, run, digest = _with_a_pickle(site, tmp_path)
    evil = pickle.dumps(Touch(tmp_path / "opened"))
    site.nbflow.store.client.set(site.nbflow.store.keys.artifact(digest), evil)
    with working(site, flow.name):
        failure_of(run, "SignatureMismatch", digest[:12], "bytes have changed")
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("head", [b"", b"nbflow pickle 1\n" + json.dumps({"python": PYTHON}).encode() + b"\n"])
def test_a_payload_that_refers_to_an_unsigned_pickle_is_not_opened(site: Site, tmp_path: Path, head: bytes) -> None:
    flow, run, digest = _with_a_pickle(site, tmp_path)
    store: Any = site.nbflow.store
    evil = head + pickle.dumps(Touch(tmp_path / "opened"))
    store.client.set(store.keys.artifact(digest_of(evil)), evil)
    for field, text in store.text.hgetall(store.keys.run(run.id)).items():
        if field.startswith("p:"):
            store.text.hset(store.keys.run(run.id), field, text.replace(digest, digest_of(evil)))
    with working(site, flow.name):
        failure_of(run, "BundleUnsigned", "pickle", "no signature")
    assert not (tmp_path / "opened").exists()


# -- queues ---------------------------------------------------------------------------------------------------------------


def _forge(waiting: Waiting, job: str, **fields: Any) -> None:
    """A job that no script of ours made, in front of all that wait."""
    store: Any = waiting.site.nbflow.store
    if fields:
        store.text.hset(store.keys.rq_job(job), mapping=fields)
    store.text.lpush(store.keys.rq_queue(waiting.queue), job)


def _is_done(waiting: Waiting, limit_s: float = 20) -> None:
    """The run's own task was executed by the one worker, after all that was forged."""
    with working(waiting.site, waiting.queue) as workers:
        waiting.run.wait(limit_s, progress=False)
        assert waiting.run.status == "completed", (waiting.run.events, workers.log.read_text())
        assert waiting.run.result == 1


def test_a_task_that_the_signed_plan_does_not_know_is_not_executed(waiting: Waiting, tmp_path: Path) -> None:
    """Law: neither what is only in the queue, nor what was written into the run's own list of open jobs as well."""
    store, run = waiting.site.nbflow.store, waiting.run.id
    fields = {"status": "queued", "origin": waiting.queue, "run": run, "attempt": "1", "ns": "nbflow"}
    for number, task in enumerate(["evil", "touch[3]", "os.system", "touch__attempt-9"]):
        _forge(waiting, f"forged-{number}", task=task, **fields)
    _forge(waiting, "moved", **(fields | {"task": "touch", "origin": "elsewhere"}))
    for number, task in enumerate(["evil", "os.system"]):
        store.text.sadd(store.keys.open(run), f"opened-{number}")
        _forge(waiting, f"opened-{number}", task=task, **fields)
    _is_done(waiting)
    assert not list(store.text.scan_iter("rq:job:opened-*"))
    ends = [
        (event.type, event.task) for event in waiting.run.follow() if event.type in ("step.completed", "step.failed")
    ]
    assert ends == [("step.completed", "touch")]


def test_garbage_in_a_queue_is_passed_over(waiting: Waiting) -> None:
    _forge(waiting, "no-such-job")
    _forge(waiting, "")
    _forge(waiting, 'odd "id"\n' + "x" * 500)
    _forge(waiting, "of-nobody", status="queued", origin=waiting.queue)
    _forge(waiting, "of-no-run", status="queued", origin=waiting.queue, run="gone", task="touch", attempt="1")
    _forge(waiting, "odd-status", status="odd", run=waiting.run.id, task="touch", attempt="1")
    _is_done(waiting)


def test_a_forged_job_without_its_fields_is_passed_over(tmp_path: Path) -> None:
    with private_site(tmp_path) as site:
        waiting = Waiting(site, tmp_path)
        _forge(waiting, "half", status="queued", run=waiting.run.id)
        _forge(waiting, "half-2", status="queued", run=waiting.run.id, task="touch", attempt="1")
        _forge(waiting, "half-3", status="queued", run=waiting.run.id, task="[", attempt="x", origin=waiting.queue)
        _is_done(waiting)
