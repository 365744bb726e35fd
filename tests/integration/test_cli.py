"""The command line against a real server and real workers: one local stack for all tests of this file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nbflow.store.wire import connect
from tests.commands import command
from tests.house.source import ROOT
from tests.servers import RunningServer
from tests.unit.test_cli_cells import notebook

T = TypeVar("T")

CELLS = (
    "import time\nfrom nbflow import Context, Flow, each, collect\n%load_ext nbflow",
    'etl = Flow("etl")',
    """
@etl.entry
def numbers(count: int = 3, name: str = "x", wait: float = 0.0) -> list[int]:
    time.sleep(wait)
    return list(range(count))
""",
    """
@etl.step(each(numbers))
def square(n: int, ctx: Context) -> int:
    ctx.log.info("evil \\x1b[31m [red]text[/red]", n=n)
    return n * n
""",
    "run = etl.start()\nrun.result",
    """
@etl.step(collect(square))
def total(values: list[int]) -> int:
    if not values:
        raise ValueError("nothing [bold]to add[/bold] \\x1b]0;title\\x07")
    return sum(values)
""",
)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("NBFLOW_")}
ENVIRONMENT |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Here:
    """A project directory with one notebook, and the command in it."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory, self.environment = directory, ENVIRONMENT | environment
        self._url = environment.get("NBFLOW_REDIS_URL", "")

    def popen(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "nbflow", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.directory, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str, code: int = 0) -> str:
        """What it prints; with a code other than 0, what it says on stderr."""
        ended_with, out, err = command(words, self.directory, self.environment, 40)
        assert ended_with == code, (words, ended_with, out, err)
        assert 'Traceback (most recent call last):\n  File "/' not in err or code == 1, err
        return err if code else out

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))

    def start(self, *words: str) -> str:
        """The id of a run that is started and not waited for."""
        return str(self.json("start", "etl", "--from", "etl.ipynb", *words)["id"])

    def ask(self, *words: Any) -> Any:
        self._url = self._url or self.json("status")["url"]
        wire = connect(self._url, 5.0)
        try:
            return wire.call(*words)
        finally:
            wire.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    made = Here(tmp_path_factory.mktemp("project"))
    (made.directory / ".nbflow").mkdir()
    notebook(made.directory / "etl.ipynb", *CELLS)
    made.run("up", "--workers", "2")
    yield made
    assert "is down" in made.run("down", "--now")


@pytest.fixture
def away(valkey: RunningServer, tmp_path: Path) -> Here:
    """A project that uses a server of its own, on which no worker is."""
    made = Here(tmp_path, NBFLOW_REDIS_URL=valkey.url, NBFLOW_NAMESPACE="cli")
    (tmp_path / ".nbflow").mkdir()
    notebook(tmp_path / "etl.ipynb", *CELLS)
    made.ask("FLUSHALL")
    return made


def eventually(look: Callable[[], T], want: Callable[[T], bool], timeout_s: float = 20.0) -> T:
    """What `look` sees once `want` likes it. Fails with the last that it saw."""
    end = time.monotonic() + timeout_s
    while not want(seen := look()):
        assert time.monotonic() < end, f"after {timeout_s} s still: {seen!r}"
        time.sleep(0.02)
    return seen


def next_line(process: subprocess.Popen[str], part: str) -> str:
    """The next line of its output that has the part in it."""
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if part in line:
            return line
    raise AssertionError(f"no line with {part!r} in {seen!r}")


def test_a_notebook_s_flow_is_run_to_its_end(here: Here) -> None:
    """Law: its cells are read with launches left out; lines tell what happens, and none of them steers the terminal."""
    out = here.run("start", "etl", "--from", "etl.ipynb", "count=3", "name=2013", "--follow")
    assert "square[2] info evil \\x1b[31m [red]text[/red] n=2" in out
    assert out.splitlines()[-1] == "Result: 5"
    assert "\x1b" not in out
    assert out.split()[1][:8] in here.run("runs")


def test_how_it_ended_is_the_exit_code_and_the_line_of_the_cell_is_told(here: Here) -> None:
    err = here.run("start", "etl", "count=0", "--from", "etl.ipynb", "--follow", code=1)
    assert "Step 'total' failed at line 5 of etl.ipynb#cell-6: ValueError: nothing [bold]to add[/bold]" in err
    assert 'raise ValueError("nothing' in err
    assert "\x1b" not in err


def test_a_canceled_run_ends_with_two(here: Here) -> None:
    with here.popen("start", "etl", "wait=30", "--from", "etl.ipynb", "--follow") as process:
        run = next_line(process, "is started").split()[1]
        eventually(
            lambda: here.json("show", run)["steps"], lambda steps: bool(steps) and steps[0]["status"] == "running"
        )
        assert "is canceled" in here.run("cancel", run[:12], "--reason", "enough")
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "Reason: enough" in out


def test_ctrl_c_leaves_the_run(here: Here) -> None:
    with here.popen("start", "etl", "wait=1", "--from", "etl.ipynb", "--follow") as process:
        run = next_line(process, "is started").split()[1]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.startswith("Detached; the run goes on.")
    assert "Traceback" not in err
    events = [json.loads(line) for line in here.run("events", run, "--follow", "--json").splitlines()]
    assert (events[0]["type"], events[-1]["type"]) == ("flow.start", "flow.completed")
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)


def test_a_run_canceled_while_it_waits_leaves_no_job(away: Here) -> None:
    run = away.start("count=2")
    assert away.ask("LLEN", "rq:queue:cli:default") == 1
    waits = [check["detail"] for check in away.json("doctor") if check["check"] == "queues"]
    assert waits == ["1 wait on 'default', which no worker serves"]
    away.run("cancel", run)
    assert away.ask("LLEN", "rq:queue:cli:default") == 0
    assert away.ask("KEYS", f"rq:job:{run}*") == []
    assert away.json("show", run)["status"] == "canceled"
    assert "is canceled already" in away.run("cancel", run, code=1)


def test_runs_are_found_by_flow_status_tag_and_prefix(here: Here) -> None:
    run = here.start("count=2", "--tag", "looked-for", "--key", "one")
    assert here.start("count=2", "--key", "one") == run
    assert "belongs to the run" in here.run("start", "etl", "--from", "etl.ipynb", "count=9", "--key", "one", code=1)
    logs = [json.loads(line) for line in here.run("logs", run[:10], "--follow", "--json").splitlines()]
    assert sorted(log["data"]["fields"]["n"] for log in logs) == [0, 1]
    shown = here.json("show", run[:10])
    assert (shown["status"], shown["input"], shown["result"]) == (
        "completed",
        {"count": 2, "name": "x", "wait": 0.0},
        1,
    )
    assert {step["name"]: step["completed"] for step in shown["steps"]} == {"numbers": 1, "square": 2, "total": 1}
    found = here.json("runs", "--flow", "etl", "--status", "completed", "--tag", "looked-for")
    assert [row["id"] for row in found] == [run]
    assert "total    completed" in here.run("show", run)
    assert "There is no run 'zzz'" in here.run("show", "zzz", code=2)


def test_the_input_is_checked_before_anything_is_written(here: Here) -> None:
    before = here.ask("ZCARD", "nbflow:flows:etl")
    assert "Did you mean 'count'" in here.run("start", "etl", "--from", "etl.ipynb", "cuont=1", code=2)
    assert "Input 'count'" in here.run("start", "etl", "--from", "etl.ipynb", "--input", '{"count": "many"}', code=2)
    assert "Did you mean 'etl'?" in here.run("start", "elt", "--from", "etl.ipynb", code=2)
    assert here.ask("ZCARD", "nbflow:flows:etl") == before


def test_of_several_flows_all_are_published_or_none(here: Here) -> None:
    good = 'from nbflow import Flow\n\nfine = Flow("fine")\n\n\n@fine.entry\ndef one() -> int:\n    return 1\n'
    (here.directory / "two.py").write_text(f'{good}\n\nFlow("hollow")\n')
    assert "Flow 'hollow' cannot start: It has no steps yet." in here.run("publish", "two.py", code=1)
    assert "No flow is published as 'fine'" in here.run("versions", "fine", code=2)
    (here.directory / "none.py").write_text("x = 1\n")
    assert "none.py defines no flow" in here.run("publish", "none.py", code=2)


def test_a_published_flow_is_started_without_its_notebook_and_rolled_back(here: Here) -> None:
    assert "No flow is published as 'sums'" in here.run("start", "sums", code=2)
    text = (
        "from nbflow import Flow\nsums = Flow('sums')\n"
        "@sums.entry\ndef add(a: int, b: int = 1) -> int:\n    return {}\nsums.start(a=1)\n"
    )
    for body, note in (("a + b", "plus"), ("a - b", "minus")):
        (here.directory / "sums.py").write_text(text.format(body))
        here.run("publish", "sums.py", "--note", note)
    assert "is version 2 already" in here.run("publish", "sums.py", "--flow", "sums")
    (here.directory / "sums.py").unlink()
    assert here.json("start", "sums", "a=3", "--follow")["result"] == 2
    assert "Input 'a'" in here.run("start", "sums", "--input", '{"a": "x"}', code=2)
    assert here.json("rollback", "sums", "1")["version"] == 3
    assert here.json("start", "sums", "a=3", "--follow")["result"] == 4
    assert [(row["version"], row["note"]) for row in here.json("versions", "sums")] == [
        (3, "plus"),
        (2, "minus"),
        (1, "plus"),
    ]
    assert "plus (version 1 again)" in here.run("versions", "sums")
    assert "has no version 9" in here.run("rollback", "sums", "9", code=1)
    assert "3 versions removed" in here.run("unpublish", "sums")
    assert "No flow is published as 'sums'" in here.run("versions", "sums", code=2)


def test_flows_and_findings_of_a_notebook(here: Here, tmp_path: Path) -> None:
    (declared,) = here.json("flows", "--from", "etl.ipynb")
    assert (declared["name"], declared["steps"]) == ("etl", ["numbers", "square", "total"])
    assert "Nothing to remark about etl." in here.run("check", "etl.ipynb")
    bad = notebook(
        tmp_path / "bad.ipynb", "from nbflow import Flow\nbad = Flow('bad')", "@bad.step('never')\ndef s(x): ..."
    )
    with here.popen("check", str(bad), "--json") as process:
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert {"error"} <= {row["severity"] for row in json.loads(out)}


def test_the_stack_is_shown_and_its_workers_can_be_drained(here: Here) -> None:
    """Law: RQ's own shutdown command, heard by the supervisor, ends that worker after its task."""
    assert here.json("status")["workers"] == 2
    eventually(lambda: here.ask("SCARD", "rq:workers"), lambda count: count == 2)
    before = [row["name"] for row in here.json("workers", "list")]
    assert here.run("workers", "drain", before[0]) == f"{before[0]} was told to end.\n"
    eventually(lambda: here.ask("SISMEMBER", "rq:workers", f"rq:worker:{before[0]}"), lambda there: not there)
    assert "There is no worker" in here.run("workers", "drain", "nobody", code=1)


def test_what_is_kept_for_other_runs_is_let_go(here: Here) -> None:
    assert here.run("prune", "--cache") == "0 kept results let go.\n"


def test_the_doctor_finds_a_running_stack_healthy(here: Here) -> None:
    told = {check["check"]: check["status"] for check in here.json("doctor")}
    assert {
        told[name] for name in ("python", "rq", "redis", "secret", "socket", "server", "persistence", "memory")
    } == {"ok"}
    gone = Here(here.directory, NBFLOW_REDIS_URL="unix:///tmp/no-such-server")
    with gone.popen("doctor") as process:
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "fail  server" in out


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, which has ended when the block has."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_workers_in_the_foreground_end_their_task_at_sigterm(away: Here) -> None:
    """Law: the secret of the project serves a server of this machine; SIGTERM drains; what ran is not lost."""
    with ended(away.popen("worker", "--concurrency", "1")) as workers:
        run = away.start("wait=1.5", "count=1")
        eventually(lambda: away.ask("ZCARD", "cli:workers"), lambda busy: busy == 1)
        eventually(lambda: away.ask("LLEN", "rq:queue:cli:default"), lambda waiting: waiting == 0)
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(20) == 0
        assert away.json("show", run)["steps"][0]["status"] == "completed"
    assert away.json("workers", "list") == []
    away.run("cancel", run)


def test_workers_for_a_far_server_need_a_secret(tmp_path: Path) -> None:
    far = Here(tmp_path)
    err = far.run("worker", "--url", "redis://:password@192.0.2.1:6379", code=1)
    assert "there is no secret to sign code with" in err
    assert "Set NBFLOW_SECRET" in err
    assert "password" not in err
    assert list(tmp_path.iterdir()) == []
