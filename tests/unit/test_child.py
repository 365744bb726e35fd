"""What a worker process inherits, and what it hands on: nothing that belongs to another worker, nothing to a user's programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nbflow.worker import child
from nbflow.worker.lifeline import Lifeline
from nbflow.worker.slots import Slots

OPEN = "import os, sys; print([fd for fd in map(int, sys.argv[1:]) if not os.system(f'test -e /dev/fd/{fd}')])"
PRIVATE = f"""
import os, subprocess, sys
from nbflow.worker.lifeline import keep_private
fds = list(map(int, sys.argv[1:]))
keep_private(*fds)
print(subprocess.run([sys.executable, "-c", {OPEN!r}, *sys.argv[1:]], close_fds=False, capture_output=True).stdout.decode().strip(), flush=True)
if not os.fork():
    for fd in fds:
        try:
            os.fstat(fd)
            print("open" if os.get_inheritable(fd) is False else "inheritable", flush=True)
        except OSError:
            print("closed", flush=True)
    os._exit(0)
os.wait()
for fd in fds:
    os.fstat(fd)
"""


def test_a_worker_is_handed_its_own_and_the_next_one_is_not() -> None:
    """Law: a worker that held the tape or the gate of another would keep it open beyond that one's end."""
    slots = Slots(n=1)
    made = child.spawn(slots.fd, 1)
    try:
        assert not any(os.get_inheritable(fd) for fd in (slots.fd, made.tape.fd, made.gate, made.line.watch))
        fds = [str(fd) for fd in (slots.fd, made.tape.fd, made.gate, made.line.watch)]
        seen = subprocess.run([sys.executable, "-c", OPEN, *fds], close_fds=False, capture_output=True, check=True)
        assert seen.stdout.strip() == b"[]"
    finally:
        made.close()
        os.waitpid(made.pid, 0)


def test_without_pidfd_a_worker_is_handed_its_end_of_the_lifeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    line = Lifeline.make()
    assert not os.get_inheritable(line.held)
    os.close(line.held)
    line.close()


def test_programs_and_forks_of_a_worker_hold_nothing_of_it() -> None:
    """Law: a program inherits none of them; a fork keeps the tape, which it writes to, and none of the pipes, whose end
    tells of a death."""
    read, write = os.pipe()
    tape = Slots(n=1).fd
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE, str(tape), str(read)],
        pass_fds=[tape, read],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:3] == ["[]", "open", "closed"], done
    for fd in (read, write):
        os.close(fd)
