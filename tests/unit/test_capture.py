"""A task finds the process as a fresh one, whatever the task before did to its output. Each test is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

FRAME = """
import contextlib, io, json, logging, os, sys, threading, time, warnings
from nbflow.worker.capture import Capture
from nbflow.worker.tape import Tape, entries

tape = Tape()
capture = Capture(tape)
capture.install()
log = logging.getLogger("mine")

def told():
    found, _ = entries(tape.read(0, tape.size()), tape.mark, final=True)
    return [(kind, data) for kind, data in found]

def say_all():
    print("printed")
    print("to stderr", file=sys.stderr)
    log.info("logged")
    warnings.warn("warned", stacklevel=1)
    os.write(1, b"descriptor 1\\n")
    os.write(2, b"descriptor 2\\n")

capture.fresh()
result = None
"""
ALL = ["printed", "to stderr", "logged", "warned", "descriptor 1", "descriptor 2"]


def run(tmp_path: Path, script: str) -> Any:
    """What the script leaves in `result`."""
    out = tmp_path / "result.json"
    end = f"\nimport pathlib\npathlib.Path({str(out)!r}).write_text(json.dumps(result))\n"
    done = subprocess.run(
        [sys.executable, "-c", FRAME + textwrap.dedent(script) + end], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done
    return json.loads(out.read_text())


def shortened(found: list[Any]) -> list[str]:
    return ["warned" if "UserWarning: warned" in data["message"] else data["message"] for _, data in found]


@pytest.mark.parametrize(
    "deed",
    [
        "pass",
        "sys.stdout = sys.stderr = io.StringIO()",
        "sys.stdout = sys.stderr = None",
        "sys.stdout.close(), sys.stderr.close()",
        "os.close(1), os.close(2)",
        "null = os.open(os.devnull, os.O_RDWR); os.dup2(null, 1); os.dup2(null, 2)",
        "sys.__stdout__.close(), sys.__stderr__.close()",
        "sys.stdout = os.fdopen(1, 'w')",
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer)",
        "logging.basicConfig(force=True, level=logging.ERROR)",
        "logging.getLogger().handlers.clear()",
        "logging.getLogger().addHandler(logging.StreamHandler())",
        "logging.getLogger().setLevel(logging.CRITICAL)",
        "logging.disable()",
        "logging.captureWarnings(False)",
        "warnings.showwarning = lambda *_, **__: None",
        "logging.captureWarnings(False); warnings.showwarning = lambda *_, **__: None",
    ],
)
def test_what_a_task_did_to_the_output_is_gone_for_the_next(tmp_path: Path, deed: str) -> None:
    script = f"""
    for _ in range(2):
        {deed}
        capture.finish_lines()
        capture.fresh()
        say_all()
        result = told()
        capture.finish_lines()
        capture.fresh()
    """
    assert shortened(run(tmp_path, script)) == ALL


def test_what_a_stream_in_our_place_holds_back_is_told_at_the_end_of_its_task(tmp_path: Path) -> None:
    script = """
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer)
    print("held back", end="")
    capture.finish_lines()
    result = told()
    """
    assert shortened(run(tmp_path, script)) == ["held back"]


def test_a_log_that_cannot_be_formatted_raises_nothing_and_is_told(tmp_path: Path) -> None:
    """Law: the same as with the standard library's own handlers."""
    script = """
    class Bad:
        def __str__(self): raise RuntimeError("no text")
    log.info("%d items", "three")
    log.warning("%s", Bad())
    log.error(Bad())
    first = told()
    logging.raiseExceptions = False
    log.info("%d items", "four")
    result = [first, told()[len(first):]]
    """
    first, then = run(tmp_path, script)
    assert [data["source"] for _, data in first] == ["stderr"] * 3
    assert "%d format" in first[0][1]["message"]
    assert "'%d items'" in first[0][1]["message"] or "%d items" in first[0][1]["message"]
    assert "no text" in first[1][1]["message"]
    assert then == []


def test_a_timeout_that_strikes_in_a_log_is_raised(tmp_path: Path) -> None:
    script = """
    class Slow:
        def __str__(self): raise TimeoutError
    try:
        log.info("%s", Slow())
    except TimeoutError:
        result = "raised"
    """
    assert run(tmp_path, script) == "raised"


def test_a_fork_writes_to_the_same_tape_and_waits_for_no_lock(tmp_path: Path) -> None:
    script = """
    print("open line", end="")
    held, let = threading.Event(), threading.Event()
    def hold():
        with sys.stdout._lock:
            held.set()
            let.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        print("from the fork")
        print("its last", end="")
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    let.set()
    thread.join()
    print(" ends")
    result = [status, told()]
    """
    status, found = run(tmp_path, script)
    assert status == 0
    assert shortened(found) == ["from the fork", "its last", "open line ends"]


def test_a_process_of_multiprocessing_tells_what_it_prints(tmp_path: Path) -> None:
    script = """
    import multiprocessing
    process = multiprocessing.get_context("fork").Process(target=print, args=("from a process",), kwargs={"end": ""})
    process.start()
    process.join(20)
    result = [process.exitcode, told()]
    """
    code, found = run(tmp_path, script)
    assert code == 0
    assert shortened(found) == ["from a process"]
