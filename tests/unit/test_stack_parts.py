"""The parts of the local stack that need no process: what workers inherit, who counts as connected, what is private."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nbflow.errors import ServerUnreachable
from nbflow.local import server
from nbflow.local.idle import OWN_NAME, foreign_clients, what_is_going_on
from nbflow.local.keeper import workers_environment
from nbflow.local.project import Project
from nbflow.local.record import Lock, Record, birth_of, is_alive
from nbflow.store.keys import Keys

LISTING = (
    f"id=3 addr=/s:0 fd=8 name={OWN_NAME} cmd=client\n"
    f"id=4 addr=/s:0 fd=9 name={OWN_NAME}-supervisor cmd=subscribe\n"
    "id=5 addr=/s:0 fd=10 name=host.12.1 cmd=blpop\n"
)


class Answers:
    """A server that answers by heart."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"client": b"", "zcard": {}, "zcount": {}, "llen": {}, "smembers": {}} | answers

    def call(self, *words: Any) -> Any:
        found = self.answers[words[0].lower()]
        empty: Any = [] if words[0] == "SMEMBERS" else 0
        return found.get(words[1], empty) if isinstance(found, dict) else found


def test_only_strangers_count_as_connected() -> None:
    """Law: neither the stack's own connections nor those of registered workers do."""
    assert foreign_clients(LISTING, frozenset({"host.12.1"})) == 0
    assert foreign_clients(LISTING) == 1
    assert foreign_clients(LISTING + "id=6 addr=/s:0 fd=11 name= cmd=get\n", frozenset({"host.12.1"})) == 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, ""),
        ({"client": b"id=6 fd=11 name= cmd=get\n"}, "1 connected"),
        ({"zcard": {"mine:runs:running": 2}}, "2 running"),
        ({"zcard": {"mine:timers": 1}}, "1 scheduled"),
        ({"zcount": {"mine:schedules": 2}}, "2 scheduled"),
        ({"smembers": {"rq:queues": [b"rq:queue:default"]}, "llen": {b"rq:queue:default": 7}}, "7 queued"),
        ({"client": LISTING.encode(), "smembers": {"rq:workers": [b"rq:worker:host.12.1"]}}, ""),
    ],
)
def test_what_keeps_a_stack_is_named(answers: dict[str, Any], said: str) -> None:
    assert what_is_going_on(Answers(**answers), Keys("mine")) == said


def test_workers_inherit_what_is_not_the_kernels_own(tmp_path: Path) -> None:
    given = {
        "PATH": "/bin",
        "JPY_PARENT_PID": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "NBFLOW_REDIS_URL": "redis://elsewhere",
    }
    project = Project(tmp_path)
    assert workers_environment(given, project) == {
        "PATH": "/bin",
        "NBFLOW_SECRET": project.secret().decode(),
        "NBFLOW_ARTIFACTS": str(tmp_path / ".nbflow" / "artifacts"),
        "NBFLOW_PROJECT": str(tmp_path),
        "NBFLOW_CLIENT_NAME": OWN_NAME,
    }
    chosen = {"MPLBACKEND": "Agg", "NBFLOW_SECRET": "s" * 16, "NBFLOW_ARTIFACTS": "s3://bucket"}
    assert workers_environment(chosen, project).items() >= chosen.items()


def test_a_process_is_known_by_its_birth() -> None:
    birth = birth_of(os.getpid())
    assert is_alive(os.getpid(), birth)
    assert not is_alive(os.getpid(), "another")
    assert birth_of(2**22 + 1) == ""
    assert not is_alive(2**22 + 1, "")


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for text in ("", "{", "[]", '{"pid": 1}'):
        path.write_text(text)
        assert Record.read(path) is None
    record = Record(1, "b", "unix:///s", "/s", 2.0, 3, 4, host="here", ending=True)
    record.write(path)
    assert Record.read(path) == record


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    assert first.is_in_place
    (tmp_path / "lock").unlink()
    assert not first.is_in_place
    first.release()
    assert second.acquire()
    second.release()


def test_a_directory_of_somebody_else_holds_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: what others could enter or have put there is refused, so that no socket of another user is taken for ours."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    long = tmp_path / ("x" * 120)
    long.mkdir()
    directory = server.socket_path(long).parent
    assert (directory.parent, directory.stat().st_mode & 0o777) == (tmp_path, 0o700)
    directory.chmod(0o777)
    with pytest.raises(ServerUnreachable, match="not this user's alone"):
        server.socket_path(long)
    directory.rmdir()
    directory.symlink_to(tmp_path)
    with pytest.raises(ServerUnreachable, match="not this user's alone"):
        server.socket_path(long)


def test_the_url_of_a_strange_path_is_quoted() -> None:
    assert server.unix_url(Path("/a b/ü#%?")) == "unix:///a%20b/%C3%BC%23%25%3F"
