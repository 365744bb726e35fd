"""The local stack: one for a project whoever starts it, gone when it should be, its data kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from nbflow.errors import ServerUnreachable
from nbflow.local.children import spawn
from nbflow.local.keeper import Keeper, Orders
from nbflow.local.project import Project
from nbflow.local.record import Lock, Record, StackFiles, birth_of
from nbflow.local.stack import Stack, StackStatus
from nbflow.store.wire import connect
from tests.house.source import ROOT

T = TypeVar("T")
STAND_IN = "tests.integration.stand_in_supervisor"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack whose workers are stood in for. Law: after the test no process of it is left."""
    with tempfile.TemporaryDirectory(prefix="nbf", dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)  # where sockets of long paths lie, killed servers' too
        made = Stack(Project(tmp_path), workers=1, grace_s=5, supervisor=STAND_IN)
        yield made
        made.down(now=True)
        eventually(lambda: processes_of(tmp_path), lambda left: left == [])


def eventually(look: Callable[[], T], want: Callable[[T], bool], timeout_s: float = 15.0) -> T:
    """What `look` sees once `want` likes it. Fails with the last that it saw."""
    end = time.monotonic() + timeout_s
    while not want(seen := look()):
        assert time.monotonic() < end, f"after {timeout_s} s still: {seen!r}"
        time.sleep(0.01)
    return seen


def processes_of(folder: Path) -> list[str]:
    """Living processes that name the folder or work in it: keepers, servers, supervisors."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        is_there = str(folder) in f"{words} {process.info['cwd']}"
        if is_there and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            found.append(words)
    return found


def ask(stack: Stack, *words: Any) -> Any:
    wire = connect(stack.ensure(), 5.0)
    try:
        return wire.call(*words)
    finally:
        wire.close()


def supervised(stack: Stack) -> StackStatus:
    """The status once the stand-in for the workers is connected."""
    return eventually(stack.status, lambda status: status.connections >= 1)


def test_a_stack_is_started_once_and_then_found(stack: Stack) -> None:
    url = stack.ensure()
    first = supervised(stack)
    assert stack.ensure() == url
    assert (first.running, first.workers, first.trouble) == (True, 1, "")
    assert first.memory_bytes > 0
    assert stack.status().pid == first.pid
    assert ask(stack, "CONFIG", "GET", "maxmemory-policy")[1] == b"noeviction"
    assert ask(stack, "CONFIG", "GET", "appendonly")[1] == b"yes"
    assert ask(stack, "CONFIG", "GET", "port")[1] == b"0"


def test_all_who_start_it_at_once_get_the_same(stack: Stack, tmp_path: Path) -> None:
    """Law: whatever the order in which processes ask, there is one keeper and one server."""
    code = (
        "import sys; from pathlib import Path; from nbflow.local.project import Project;"
        "from nbflow.local.stack import Stack;"
        f"print(Stack(Project(Path(sys.argv[1])), workers=1, supervisor={STAND_IN!r}).ensure())"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    starters = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)]
    urls = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert urls == {stack.ensure()}
    assert len([words for words in processes_of(tmp_path) if "nbflow.local.keeper" in words]) == 1
    assert len([words for words in processes_of(tmp_path) if "valkey-server" in words]) == 1


def test_down_leaves_no_process_and_keeps_the_data(stack: Stack, tmp_path: Path) -> None:
    ask(stack, "SET", "kept", "value")
    assert stack.down()
    assert processes_of(tmp_path) == []
    assert not stack.status().running
    assert not stack.down()
    assert ask(stack, "GET", "kept") == b"value"


def test_workers_finish_what_they_hold_before_the_server_ends(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DRAIN_S", "0.5")
    stack.ensure()
    supervisor = psutil.Process(supervised(stack).supervisor_pid)
    started = time.monotonic()
    stack.down()
    assert time.monotonic() - started >= 0.5
    assert not supervisor.is_running()


def test_who_asks_for_a_stack_that_is_ending_gets_the_next_one(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: an address that is given out does not end a moment later because of an earlier `down`."""
    monkeypatch.setenv("STAND_IN_DRAIN_S", "0.5")
    ask(stack, "SET", "kept", "value")
    before = supervised(stack)
    with ThreadPoolExecutor(1) as elsewhere:
        went_down = elsewhere.submit(stack.down)
        _ask_for_the_next_one(stack, before)
        assert went_down.result(10)


def _ask_for_the_next_one(stack: Stack, before: StackStatus) -> None:
    eventually(lambda: Record.read(stack.files.record), lambda record: record is not None and record.ending)
    assert ask(stack, "GET", "kept") == b"value"
    assert stack.status().pid != before.pid


def test_workers_are_asked_of_the_next_stack_while_one_ends(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_DRAIN_S", "0.5")
    stack.ensure()
    before = supervised(stack)
    with ThreadPoolExecutor(1) as elsewhere:
        went_down = elsewhere.submit(stack.down)
        eventually(lambda: Record.read(stack.files.record), lambda record: record is not None and record.ending)
        stack.set_workers(3)
        assert went_down.result(10)
    now = stack.status()
    assert (now.running, now.workers) == (True, 3)
    assert now.pid != before.pid


def test_workers_that_do_not_finish_are_ended_after_the_grace(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DRAIN_S", "600")
    hasty = replace(stack, grace_s=0.2)
    hasty.ensure()
    supervised(hasty)
    hasty.down()
    assert processes_of(tmp_path) == []


@pytest.mark.fault
def test_a_killed_keeper_leaves_nothing_and_loses_nothing(stack: Stack, tmp_path: Path) -> None:
    """Law: after kill -9 of the keeper all its children end, and the next start finds what was stored."""
    ask(stack, "SET", "kept", "value")
    before = supervised(stack)
    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: birth_of(before.pid), lambda birth: not birth)  # kill() does not wait for the end
    assert ask(stack, "GET", "kept") == b"value"  # at once: the new server waits for the former one to end
    after = stack.status()
    assert after.pid != before.pid
    eventually(
        lambda: [pid for pid in (before.server_pid, before.supervisor_pid) if birth_of(pid)], lambda left: not left
    )


def test_a_stack_that_is_held_elsewhere_is_named(stack: Stack) -> None:
    """Law: two keepers never serve one folder, not even from two machines; the error names the other one."""
    files = StackFiles(stack.project.make_stack_folder())
    Record(1, "birth-on-another-machine", "", "", 0.0, 1, 0, host="elsewhere").write(files.record)
    lock = Lock(files.keeper_lock)
    assert lock.acquire()
    keeper = Keeper(Orders(files.folder, stack.project.root, workers=0, former_s=0.1))
    with pytest.raises(ServerUnreachable, match="elsewhere, pid 1"):
        keeper.start()
    lock.release()


@pytest.mark.fault
def test_what_ends_by_itself_is_started_again(stack: Stack) -> None:
    ask(stack, "SET", "kept", "value")
    ask(stack, "WAITAOF", 1, 0, 2000)  # the server writes within a second; kill -9 may lose that second
    before = supervised(stack)
    os.kill(before.supervisor_pid, signal.SIGKILL)
    eventually(stack.status, lambda now: now.supervisor_pid != before.supervisor_pid)
    os.kill(before.server_pid, signal.SIGKILL)
    eventually(stack.status, lambda now: now.server_pid != before.server_pid and now.memory_bytes > 0)
    assert stack.status().pid == before.pid
    assert ask(stack, "GET", "kept") == b"value"


def test_workers_that_always_end_are_reported(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_ENDS", "1")
    stack.ensure()
    status = eventually(stack.status, lambda now: bool(now.trouble))
    assert "in a row" in status.trouble
    assert status.running


def test_the_number_of_workers_can_be_changed(stack: Stack) -> None:
    stack.ensure()
    before = supervised(stack)
    stack.set_workers(3)
    after = eventually(stack.status, lambda now: now.workers == 3)
    assert after.supervisor_pid != before.supervisor_pid
    eventually(stack.files.workers_log.read_text, lambda text: "--concurrency 3" in text)
    eventually(lambda: birth_of(before.supervisor_pid), lambda birth: not birth)
    stack.set_workers(0)
    eventually(stack.status, lambda now: now.workers == 0 and now.supervisor_pid == 0)


@pytest.mark.parametrize("name", ["x" * 120, "a name with spaces, ü, 100 % and #"])
def test_a_long_or_strange_path_is_no_obstacle(tmp_path: Path, name: str) -> None:
    """Law: a socket's path is short even where the project's is not, and a URL quotes what it must."""
    root = tmp_path / name
    root.mkdir()
    stack = Stack(Project(root), workers=0)
    try:
        assert ask(stack, "PING") == b"PONG"
        record = Record.read(stack.files.record)
        assert record is not None
        assert len(os.fsencode(record.socket)) < 104
    finally:
        stack.down(now=True)
    assert not Path(record.socket).exists()
    assert Path(record.socket).parent == stack.files.folder or not Path(record.socket).parent.exists()


def test_it_ends_when_nobody_needs_it(stack: Stack, tmp_path: Path) -> None:
    """Law: the workers' own connections do not keep it."""
    brief = replace(stack, idle_s=0.5, check_s=0.1)
    brief.ensure()
    eventually(lambda: processes_of(tmp_path), lambda left: left == [])
    assert not brief.status().running


@pytest.mark.parametrize(
    "need",
    [
        ("ZADD", "nbflow:runs:running", "1", "run"),
        ("ZADD", "nbflow:timers", "1", "timer"),
    ],
)
def test_it_stays_while_something_runs_or_is_scheduled(stack: Stack, need: tuple[str, ...], tmp_path: Path) -> None:
    brief = replace(stack, idle_s=1.0, check_s=0.1)
    ask(brief, *need)
    pid = brief.status().pid
    time.sleep(2.5)  # longer than it would live without need; nothing happens that could be waited for
    assert brief.status().pid == pid
    ask(brief, "DEL", need[1])
    eventually(lambda: processes_of(tmp_path), lambda left: left == [])


def test_it_stays_while_somebody_is_connected(stack: Stack, tmp_path: Path) -> None:
    brief = replace(stack, idle_s=1.0, check_s=0.1)
    wire = connect(brief.ensure(), 5.0)
    time.sleep(2.5)  # the same
    assert wire.call("PING") == b"PONG"
    wire.close()
    eventually(lambda: processes_of(tmp_path), lambda left: left == [])


def test_a_stack_whose_folder_was_deleted_ends(stack: Stack, tmp_path: Path) -> None:
    stack.ensure()
    shutil.rmtree(tmp_path / ".nbflow")
    eventually(lambda: processes_of(tmp_path), lambda left: left == [])


def test_a_record_of_another_time_names_nobody(stack: Stack) -> None:
    """Law: a pid that another process has now is neither taken for the keeper nor signalled."""
    stack.project.make_stack_folder()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        stale = Record(bystander.pid, "another-birth", "unix:///nowhere", "/nowhere", 0.0, 1, 0)
        stale.write(stack.files.record)
        assert not stack.status().running
        assert not stack.down()
        assert stack.ensure() != stale.url
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_cannot_start_says_why(stack: Stack, tmp_path: Path) -> None:
    ask(stack, "SET", "kept", "value")
    stack.down()
    manifest = next((stack.files.folder / "data" / "appendonlydir").glob("*.manifest"))
    manifest.write_text("this is no manifest\n")
    with pytest.raises(ServerUnreachable) as caught:
        stack.ensure()
    assert "Its log ends with" in caught.value.message
    assert "server.log" in caught.value.hint
    keepers = Lock(stack.files.keeper_lock)
    eventually(keepers.acquire, bool)
    keepers.release()


def test_on_windows_it_is_one_sentence(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ServerUnreachable, match=r"need Linux or macOS\. Work in WSL"):
        stack.ensure()


def with_real_workers(stack: Stack, **changes: Any) -> Stack:
    """The same stack with nbflow's own supervisor, once two workers are registered."""
    real = replace(stack, supervisor="nbflow.worker.serve", workers=2, **changes)
    eventually(lambda: ask(real, "SCARD", "rq:workers"), lambda count: count == 2)
    return real


@pytest.mark.fault
def test_real_workers_end_with_a_killed_keeper(stack: Stack, tmp_path: Path) -> None:
    real = with_real_workers(stack)
    os.kill(real.status().pid, signal.SIGKILL)
    eventually(lambda: processes_of(tmp_path), lambda left: left == [])


def test_real_workers_do_not_keep_an_unneeded_stack(stack: Stack, tmp_path: Path) -> None:
    with_real_workers(stack, idle_s=8.0, check_s=0.2)
    eventually(lambda: processes_of(tmp_path), lambda left: left == [], timeout_s=40)


@pytest.mark.fault
@pytest.mark.parametrize("guarded", [False, True])
def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path, guarded: bool) -> None:
    """Law: with the kernel's signal and with the guard process alike."""
    code = (
        "import signal, sys, time; from pathlib import Path; from nbflow.local.children import spawn;"
        "child = spawn([sys.executable, '-c', 'import time; time.sleep(60)'], Path(sys.argv[1]),"
        f" on_parent_death=signal.SIGKILL, guarded={guarded}); print(child.pid, flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert birth_of(pid)
        parent.kill()
    eventually(lambda: birth_of(pid), lambda birth: not birth)


def test_a_guard_goes_with_its_child(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", ""], tmp_path / "log", on_parent_death=signal.SIGKILL, guarded=True)
    guard = child.guard
    assert guard is not None
    assert eventually(child.ended, lambda code: code is not None) == 0
    assert guard.poll() is not None
