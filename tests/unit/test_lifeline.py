"""How processes learn of each other's end, on kernels that tell and on those that do not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from nbflow.worker.lifeline import Lifeline

WAITS = "import sys, os, threading; from nbflow.worker.lifeline import end_with; print('up', flush=True); end_with(int(sys.argv[1]))"


@pytest.fixture(params=["pidfd", "pipe"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pipe":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this kernel has no pidfd")
    return str(request.param)


def test_a_lifeline_becomes_readable_when_the_child_is_killed(kernel: str) -> None:
    line = Lifeline.make()
    held = [line.held] if line.held >= 0 else []
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=held)
    line.begin(child.pid)
    assert select.select([line.watch], [], [], 0)[0] == []
    child.send_signal(signal.SIGKILL)
    assert select.select([line.watch], [], [], 10)[0] == [line.watch]
    child.wait()
    line.close()


def test_a_child_ends_when_the_gate_is_closed() -> None:
    read, write = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", WAITS, str(read)], pass_fds=[read], stdout=subprocess.PIPE)
    os.close(read)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    os.close(write)
    assert child.wait(10) == -signal.SIGKILL
    child.stdout.close()
