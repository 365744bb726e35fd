"""A server that is not there, not ours, not fit, or full; and settings that make no sense: one sentence each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nbflow import Context, Flow
from nbflow.app import Nbflow
from nbflow.errors import (
    AccessDenied,
    CommandRefused,
    FormatMismatch,
    NbflowError,
    RunEnded,
    SecretMissing,
    ServerTooOld,
    ServerUnreachable,
    StoreError,
)
from nbflow.settings import settings
from nbflow.watch.run import Run
from tests.bad_input import nothing_written, private_site, readable, refused
from tests.servers import Kind, server_binary
from tests.site import SECRET, Site, wait_until


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of this module's own, without workers."""
    with private_site(tmp_path_factory.mktemp("private")) as site:
        yield site


def simple(**options: Any) -> Flow:
    flow = Flow("simple", **options)

    @flow.entry
    def go(n: Any = 1) -> Any:
        return n

    return flow


def start_at(url: str, folder: Path, **options: Any) -> Run:
    with Nbflow(url, secret=SECRET, project=folder, **options) as opened:
        return simple().options(on=opened).start()


def supervisor_says(*options: str, **environment: str) -> str:
    """What `nbflow worker` says when it cannot begin: one line, and the exit code 1."""
    command = [sys.executable, "-P", "-m", "nbflow.worker.serve", *options]
    variables = os.environ | {"NBFLOW_SECRET": SECRET} | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, (done.returncode, done.stderr)
    return readable(done.stderr.strip())


# -- not there ------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def test_nothing_answers(tmp_path: Path) -> None:
    port = free_port()
    for url, words in (
        (f"redis://127.0.0.1:{port}", (f"127.0.0.1:{port}", "refused", "NBFLOW_REDIS_URL")),
        (f"redis://me:hunter22@127.0.0.1:{port}/3", (f"me:***@127.0.0.1:{port}/3", "refused")),
        (f"unix://{tmp_path}/none.sock", (f"{tmp_path}/none.sock", "No such file")),
        ("redis://no-such-host.invalid:6379", ("no-such-host.invalid",)),
    ):
        with refused(ServerUnreachable, "No server answers at", *words):
            start_at(url, tmp_path)
        assert "hunter22" not in (said := supervisor_says("--url", url))
        assert all(word.lower() in said.lower() for word in ("No server answers at", words[0]))


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port", "redis://localhost/x"])
def test_what_is_no_address_is_said(url: str, tmp_path: Path) -> None:
    with refused(ServerUnreachable, repr(url), "no address", "redis://host:port/db"):
        start_at(url, tmp_path)
    assert "no address" in supervisor_says("--url", url)


# -- not ours -------------------------------------------------------------------------------------------------------------


@contextmanager
def locked(private: Site) -> Generator[None]:
    """Meanwhile the server asks for a password, and knows a user who may only read."""
    client = private.nbflow.store.client
    client.execute_command("ACL SETUSER reader on >pw-of-reader ~* &* +@read +ping +info +select +client")
    client.config_set("requirepass", "pw-of-all")
    try:
        yield
    finally:
        client.config_set("requirepass", "")
        client.execute_command("ACL DELUSER reader")


def test_a_wrong_password_and_missing_rights_are_told_apart(private: Site, tmp_path: Path) -> None:
    port = private.server.port
    for who, words in (
        (":wrong-pw@", ("refuses the user or the password", ":***@127.0.0.1")),
        ("nobody:wrong-pw@", ("refuses the user or the password", "nobody:***@")),
        ("", ("refuses the user or the password",)),
        ("reader:pw-of-reader@", ("lacks a right", "reader:***@", "permission")),
    ):
        url = f"redis://{who}127.0.0.1:{port}"
        with nothing_written(private.nbflow), locked(private):
            with refused(AccessDenied, *words):
                start_at(url, tmp_path)
            said = supervisor_says("--url", url)
            assert words[0] in said
            assert "pw" not in said


def test_a_remote_server_without_a_secret_is_not_even_connected(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listening:
        listening.setblocking(False)
        url = f"redis://{socket.gethostname()}:{listening.getsockname()[1]}"
        with refused(SecretMissing, socket.gethostname(), "not on this machine", "NBFLOW_SECRET"):
            simple().options(on=Nbflow(url, project=tmp_path)).start()
        with pytest.raises(BlockingIOError):
            listening.accept()


# -- not fit --------------------------------------------------------------------------------------------------------------


@contextmanager
def old_server(version: str) -> Generator[str]:
    """Answers as a Redis of that version does, as far as we get with it: there is no CLIENT SETINFO before 7.2, and no
    HELLO before 6."""
    info = f"# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n".encode()
    listening = socket.create_server(("127.0.0.1", 0))
    replies = {b"INFO": b"$%d\r\n%s\r\n" % (len(info), info), b"PING": b"+PONG\r\n", b"SELECT": b"+OK\r\n"}
    if version >= "6":
        replies[b"HELLO"] = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"

    def answer(line: socket.socket) -> None:
        with line, line.makefile("rb") as words:
            while head := words.readline():
                asked = [words.read(int(words.readline()[1:]) + 2)[:-2].upper() for _ in range(int(head[1:]))]
                line.sendall(replies.get(asked[0], b"-ERR unknown command `%s`, with args\r\n" % asked[0]))

    def accept() -> None:
        while True:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(line,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def test_a_server_that_is_too_old_is_named_with_its_version(tmp_path: Path) -> None:
    for version, shown in (("6.2.0", "Redis 6.2.0"), ("5.0.14", "older than Redis 6")):
        with old_server(version) as url, refused(ServerTooOld, shown, "Redis 7.0 or newer", "Valkey 7.2"):
            start_at(url, tmp_path)


def test_keys_of_another_format_are_left_alone(private: Site, tmp_path: Path) -> None:
    store = private.nbflow.store
    ours = store.text.get(store.keys.format())
    store.text.set(store.keys.format(), 99)
    try:
        with nothing_written(private.nbflow), refused(FormatMismatch, "'nbflow'", "format 99", "NBFLOW_NAMESPACE"):
            start_at(private.server.url, tmp_path)
    finally:
        store.text.set(store.keys.format(), str(ours))


def test_workers_of_another_format_do_not_work(tmp_path: Path) -> None:
    """Law: who comes first to a namespace says its format, and neither a supervisor of another one begins nor a worker: not
    the first, nor one that comes in another's place after an update."""
    with private_site(tmp_path) as site:
        text: Any = site.nbflow.store.text
        key = site.nbflow.store.keys.format()
        ours = text.getdel(key)
        workers = site.start_workers(1)
        try:
            wait_until(lambda: site.living() == 1, what=workers.log.read_text)
            assert text.get(key) == ours
            text.set(key, 99)
            os.kill(site.nbflow.index.workers()[0].pid or 0, signal.SIGKILL)
            wait_until(lambda: "holds keys of format 99" in workers.log.read_text(), what=workers.log.read_text)
        finally:
            workers.kill()
        refusing = site.start_workers(1)
        assert refusing.process.wait(20) == 1
        assert "'nbflow' holds keys of format 99; this nbflow writes format" in refusing.log.read_text()


# -- full -----------------------------------------------------------------------------------------------------------------


@contextmanager
def memory(site: Site, limit: float) -> Generator[None]:
    """A server with so much memory; a fraction is of what it uses now."""
    client = site.nbflow.store.client
    used: Any = client.info("memory")
    client.config_set("maxmemory", int(used["used_memory"] * limit) if isinstance(limit, float) else limit)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("limit", [1.05, 1])
@pytest.mark.parametrize("value", [1, b"x" * 200_000])
def test_a_full_server_starts_nothing_and_is_still_looked_at(
    private: Site, tmp_path: Path, limit: float, value: object
) -> None:
    """Law: whether the code is there already or not, and whether the server takes any write at all or not."""
    known = simple()
    known.options(on=private.nbflow).start().cancel()
    fresh = Flow(f"fresh-{limit}")
    fresh.entry(lambda_free)
    with nothing_written(private.nbflow), memory(private, limit):
        for flow in (known, fresh):
            with refused(StoreError, "is full", "maxmemory", "more memory"):
                flow.options(on=private.nbflow).start(n=value)
        with Nbflow(private.server.url, secret=SECRET, project=tmp_path) as other:
            assert set(other.runs()["status"]) == {"canceled"}
    known.options(on=private.nbflow).start(n=value).cancel()


def lambda_free(n: Any = 1) -> Any:
    return n


def holding() -> Flow:
    """A step that logs, keeps state and returns an artifact once the gate is open, and a step after it."""
    flow = Flow("holds")

    @flow.entry
    def hold(begun: Path, gate: Path, times: Path, ctx: Context) -> Any:
        import time

        begun.touch()
        while not gate.exists():
            time.sleep(0.005)
        with times.open("a") as file:
            file.write("once\n")
        print("logged while full")
        ctx.state.set("n", 1)
        return {"pid": os.getpid(), "much": b"x" * 100_000}

    @flow.step(hold)
    def after(held: Any) -> Any:
        return held["pid"] == os.getpid(), len(held["much"])

    return flow


def test_a_large_run_can_be_canceled_on_a_full_server(private: Site) -> None:
    """Law: a cancel asks for no room, whatever else of it has to wait for some."""
    flow = Flow("large")

    for number in range(600):

        @flow.entry(name=f"also_{number}")
        def also() -> None: ...

    run = flow.options(on=private.nbflow).start()
    with memory(private, 1):
        run.cancel("no room")
        assert run.status == "canceled"
    with refused(RunEnded, "canceled already"):
        run.cancel()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_full_server_loses_no_result_and_ends_no_worker(tmp_path: Path, kind: Kind) -> None:
    """Law: a worker holds what it finished, its logs, state and artifacts, until there is room; leases go on."""
    if server_binary(kind) is None:
        pytest.skip(f"{kind} is not installed")
    with private_site(tmp_path, kind) as site:
        flow, begun, gate, times = holding(), tmp_path / "begun", tmp_path / "gate", tmp_path / "times"
        store: Any = site.nbflow.store
        workers = site.start_workers(1)
        try:
            run = flow.options(on=site.nbflow).start(begun=begun, gate=gate, times=times)
            other = flow.options(on=site.nbflow).start(begun=begun, gate=gate, times=times)
            wait_until(begun.exists, what=workers.log.read_text)
            with memory(site, 1):
                gate.touch()
                wait_until(lambda: _refusals(store) > 2, what=lambda: store.client.info("errorstats"))
                (worker, lease), *_ = store.text.zrange(store.keys.workers(), 0, -1, withscores=True)
                wait_until(lambda: (store.text.zscore(store.keys.workers(), worker) or 0) > lease)
                assert run.status == "running"
                other.cancel("no room")
                assert other.status == "canceled"
            assert run.wait(20, progress=False).result == (True, 100_000)
            assert times.read_text() == "once\n"
            assert "logged while full" in list(run.logs["message"])
            assert run.state == {"n": 1}
            assert "ended" not in workers.log.read_text()
        finally:
            assert workers.stop() == 0, workers.log.read_text()


def _refusals(store: Any) -> int:
    said = store.client.info("errorstats").get("errorstat_OOM") or {}
    return int(said.get("count", 0)) if isinstance(said, dict) else int(str(said).partition("=")[2])


# -- settings -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment that is read anew, and forgotten again."""
    settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("NBFLOW_REDIS_URL", "localhost", "redis://"),
        ("NBFLOW_SECRET", "short", "16 characters"),
        ("NBFLOW_NAMESPACE", "with space", "'with space'"),
        ("NBFLOW_WORKERS", "many", "'many'"),
        ("NBFLOW_WORKERS", "-1", "'-1'"),
        ("NBFLOW_LEASE_S", "soon", "'soon'"),
        ("NBFLOW_LEASE_S", "2", "NBFLOW_HEARTBEAT_S"),
        ("NBFLOW_HEARTBEAT_S", "nan", "NBFLOW_HEARTBEAT_S"),
        ("NBFLOW_IDLE_MINUTES", "0", "'0'"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(
    environment: pytest.MonkeyPatch, variable: str, value: str, word: str
) -> None:
    environment.setenv("NBFLOW_HEARTBEAT_S", "1")
    environment.setenv(variable, value)
    with refused(NbflowError, variable, word):
        Nbflow()


@pytest.mark.parametrize("namespace", ["with space", 'quo"te', "a:b", "1a", "x" * 41, "new\nline"])
def test_a_namespace_of_a_bad_name_is_refused_before_anything_starts(tmp_path: Path, namespace: str) -> None:
    with refused(CommandRefused, f"{namespace!r} cannot be a namespace", "at most 40"):
        Nbflow(namespace=namespace, project=tmp_path)
    assert not list(tmp_path.iterdir())


def test_workers_that_are_told_nonsense_say_so(private: Site) -> None:
    url = private.server.url
    assert "'gpu 1'" in supervisor_says("--url", url, "--queues", "default,gpu 1")
    assert "'with space'" in supervisor_says("--url", url, "--namespace", "with space")
    assert "cannot be 0 workers" in supervisor_says("--url", url, "--concurrency", "0")
    assert "cannot be -3 workers" in supervisor_says("--url", url, "--concurrency", "-3")
    assert "cannot be -1 workers" in supervisor_says("--url", url, NBFLOW_WORKERS="-1")
    assert "NBFLOW_WORKERS cannot be 'nan'" in supervisor_says("--url", url, NBFLOW_WORKERS="nan")
    assert "NBFLOW_WORKERS cannot be 'many'" in supervisor_says("--url", url, NBFLOW_WORKERS="many")
    assert "NBFLOW_LEASE_S cannot be 'soon'" in supervisor_says("--url", url, NBFLOW_LEASE_S="soon")
