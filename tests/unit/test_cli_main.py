"""The command as a whole: what it loads, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from nbflow import errors
from nbflow.cli.main import exit_code, main
from nbflow.store.connect import Store
from tests.servers import running_server

HEAVY = {"pandas", "numpy", "pyarrow", "networkx", "redis", "rq", "IPython", "pydantic", "rich", "cloudpickle"}


def nbflow(*words: str, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "nbflow", *words], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def test_help_loads_nothing_that_takes_time() -> None:
    """Law: `nbflow --help` takes less than 300 ms, which is typer and our own modules; counted by modules, not by a clock."""
    code = "import json, sys\ntry:\n    from nbflow.cli.main import main; main(['--help'])\nfinally:\n    print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "quickstart" in out
    assert not HEAVY & set(json.loads(out.splitlines()[-1]))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UnknownRun("x"), 2),
        (errors.UnknownFlow("x"), 2),
        (errors.InputInvalid("x"), 2),
        (errors.RunEnded("x"), 1),
        (errors.ServerUnreachable("x"), 1),
        (errors.DefinitionError("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_wrong_usage_and_failure_have_codes_of_their_own(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_an_unknown_command_is_wrong_usage() -> None:
    assert "No such command 'nonsense'" in nbflow("nonsense", code=2).stderr


@pytest.mark.parametrize("status", ["running", "awaiting"])
def test_only_ended_runs_are_pruned(status: str) -> None:
    assert f"no ended run is '{status}'" in nbflow("prune", "--status", status, code=2).stderr


def test_what_is_kept_for_other_runs_is_of_no_flow_and_no_run() -> None:
    assert "it is of all flows, and of no run" in nbflow("prune", "--cache", "--flow", "etl", code=2).stderr


def test_the_version_is_told() -> None:
    assert nbflow("--version").stdout.startswith("nbflow 0.")


def test_an_error_is_a_sentence_and_a_hint_and_a_traceback_only_on_demand(tmp_path: Path) -> None:
    words = ("start", "etl", "--priority", "0", "--delay", "soon")
    done = nbflow(*words, code=1, cwd=tmp_path)
    assert done.stderr == (
        "Error: The delay of a start cannot be 'soon'.\n"
        "→ Give seconds, a timedelta, or text such as '30s', '15m', '1h30m'.\n"
    )
    assert "Traceback" in nbflow("--debug", *words, code=1, cwd=tmp_path).stderr


def test_the_doctor_ends_with_one_if_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(nbflow("doctor", "--json", cwd=tmp_path).stdout)
    assert {check["status"] for check in told} <= {"ok", "warn"}
    monkeypatch.setattr(os, "environ", {**os.environ, "NBFLOW_LEASE_S": "2"})
    assert (
        "fail"
        in subprocess.run(
            [sys.executable, "-m", "nbflow", "doctor"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ,
            check=False,
        ).stdout
    )


def test_a_new_secret_can_be_used(tmp_path: Path) -> None:
    first, second = nbflow("secret", "new").stdout, nbflow("secret", "new").stdout
    assert first != second
    assert len(first.strip()) == 64


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Law: `nbflow … | head` ends in silence."""
    with subprocess.Popen(
        [sys.executable, "-m", "nbflow", "doctor", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize("words", [["events", "r1"], ["events", "r1", "--json"], ["logs", "r1", "--json"], ["runs"]])
def test_a_reader_that_goes_away_early_ends_the_command_in_silence(tmp_path: Path, words: list[str]) -> None:
    """Law: 141 as for any program that SIGPIPE ends, and nothing on stderr. (The run is longer than a pipe holds.)"""
    with running_server("valkey", tmp_path / "server") as server:
        store = Store(server.url)
        store.check()
        store.text.hset(store.keys.run("r1"), mapping={"status": "running", "flow": "etl", "started": 1})
        store.text.zadd(store.keys.runs("running"), {"r1": 1})
        with store.text.pipeline() as pipe:
            for n in range(3000):
                data = json.dumps({"level": "info", "message": "x" * 200})
                pipe.xadd(store.keys.log("r1"), {"type": "log", "task": "a", "attempt": 1, "data": data}, f"{n + 1}-0")
            pipe.execute()
        environment = {**os.environ, "NBFLOW_REDIS_URL": server.url, "NBFLOW_SECRET": "a secret for tests only"}
        with subprocess.Popen(
            [sys.executable, "-m", "nbflow", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            if words != ["runs"]:
                assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait() == 141
        store.close()


def test_a_terminal_without_our_letters_gets_their_numbers(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "nbflow", "start", "x", "--delay", "soon"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert "\\u2192 Give seconds" in done.stderr


def test_an_error_that_comes_of_ctrl_c_is_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Law: an interrupt in the middle of something may come out of it as another error; the exit code is 130 all the same."""

    def command(**_: Any) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("cannot join thread before it is started") from None

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("typer.main.get_command", lambda _: command)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back what main changes
    try:
        with pytest.raises(SystemExit) as ended:
            main([])
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""
