"""The value of a secret stays with the worker: it is in no key of the server, in no artifact and in no error, whatever the
step does with it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbflow import Context, Flow, Retry, Secret, failed
from nbflow.app import Nbflow, current_default, use
from nbflow.errors import CaptureError, PayloadError
from nbflow.model import veil
from nbflow.watch.run import Run
from tests.bad_input import failure_of
from tests.servers import start_server
from tests.site import SECRET, Site, wait_until

DWH, PEM = Secret("DWH_PASSWORD"), Secret("DEPLOY_KEY")
VALUE = 'hünter"2\\is not enough/for me'
LINES = ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQDH4tgqQ2vJ4m5k"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own, a folder for artifacts, and one worker that has both secrets: the environment's, the file's."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / ".nbflow" / "secrets").mkdir(parents=True)
    (folder / ".nbflow" / "secrets" / PEM.name).write_text("\n".join(LINES) + "\n")
    server, before = start_server("valkey", folder / "server"), current_default()
    with pytest.MonkeyPatch.context() as patch, Nbflow(server.url, secret=SECRET, project=folder) as nbflow:
        patch.setattr(Nbflow, "artifact_place", str(folder / "artifacts"))
        use(nbflow)
        site = Site(server, nbflow, folder)
        workers = site.start_workers(1, **{DWH.name: VALUE, "NBFLOW_ARTIFACTS": str(folder / "artifacts")})
        try:
            wait_until(lambda: site.living() == 1, what=workers.log.read_text)
            yield site
        finally:
            workers.stop()
            server.stop()
            use(before)


def told(place: Site) -> bytes:
    """All that anybody could read: every key and its value, the artifacts beside the server, the workers' own log."""
    client: Any = place.nbflow.store.client
    parts: list[bytes] = []
    for key in client.scan_iter(count=1000):
        read: dict[bytes, Callable[[], Any]] = {
            b"string": lambda key=key: client.get(key),
            b"hash": lambda key=key: client.hgetall(key),
            b"list": lambda key=key: client.lrange(key, 0, -1),
            b"set": lambda key=key: client.smembers(key),
            b"zset": lambda key=key: client.zrange(key, 0, -1),
            b"stream": lambda key=key: client.xrange(key),
        }
        look = read.get(client.type(key))
        parts += [key, *_bytes_in(look())] if look else []  # none: it went meanwhile
    files = [*(place.folder / "artifacts").rglob("*"), *place.folder.glob("*.log")]
    return b"\n".join([*parts, *(path.read_bytes() for path in files if path.is_file())])


def _bytes_in(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        value = [*value.items()]
    if isinstance(value, list | set | tuple):
        for part in value:
            yield from _bytes_in(part)
    else:
        yield value if isinstance(value, bytes) else str(value).encode()


def nowhere(place: Site, *values: str) -> None:
    everything = told(place)
    for value in values:
        raws = [value.encode(), value.encode("utf-16-le"), value.encode("utf-32-le"), repr(value)[1:-1].encode()]
        for raw in [*raws, base64.b64encode(value.encode())[:-4]]:
            assert raw not in everything, raw


def ended(run: Run) -> Run:
    return run.wait(25, progress=False)


def test_what_a_step_prints_and_warns_is_masked_also_when_it_is_split_over_writes(place: Site) -> None:
    flow = place.flow()

    @flow.entry
    def talk() -> str:
        import subprocess
        import sys
        import urllib.parse
        import warnings

        value, key = DWH.get(), PEM.get()
        print("printed", value)
        for piece in value:
            print(piece, end="", flush=True)
        print()
        half = len(value.encode()) // 2
        os.write(1, b"by two writes " + value.encode()[:half])
        os.write(1, value.encode()[half:] + b"\n")
        print("x" * 8185 + value)  # where a long line is cut into messages
        print(key)
        print(repr([value]), urllib.parse.quote(value), base64.b64encode(f"user:{value}".encode()).decode(), sep="\n")
        subprocess.run(["echo", "by a subprocess", value], check=True)
        sys.stderr.write(value)
        warnings.warn(f"insecure: {value}", stacklevel=1)
        return "done"

    run = ended(flow.start())
    assert run.status == "completed", run.error
    messages = {str(message) for message in run.logs["message"]}
    assert {"printed ***", "***", "by two writes ***", "by a subprocess ***"} <= messages
    nowhere(place, VALUE, *LINES[1:])


def test_what_a_step_logs_and_notes_is_masked(place: Site) -> None:
    flow = place.flow()

    @flow.entry
    def note(password: Secret, ctx: Context) -> str:
        import logging

        value = password.get()
        logging.getLogger("mine").warning("connecting with %s", value)
        ctx.log.info(value, dsn=f"postgres://me:{value}@host", nested={"list": [value]}, password=password)
        ctx.progress(1, 2, f"as {value}")
        ctx.metric(value, 1.0)
        return "done"

    run = ended(flow.start(password=DWH))
    assert run.status == "completed", run.error
    assert list(run.logs["message"]) == ["connecting with ***", "***"]
    fields = {"dsn": "postgres://me:***@host", "nested": {"list": ["***"]}, "password": "Secret('DWH_PASSWORD')"}
    assert run.logs["fields"].iloc[1] == fields
    assert list(run.metrics["name"]) == ["***"]
    assert run.input == {"password": DWH}
    nowhere(place, VALUE)


def test_errors_and_tracebacks_are_masked_and_so_is_what_handlers_of_failures_receive(place: Site) -> None:
    flow = place.flow()

    @flow.entry(retry=Retry(2, backoff=0))
    def fail(ctx: Context) -> None:
        value = DWH.get()
        try:
            int(value)
        except ValueError as error:
            raise RuntimeError(f"cannot connect with {value!r}") from error

    @flow.step(failed(fail))
    def handle(failure: dict[str, Any]) -> str:
        return str(failure["error"])

    run = ended(flow.start())
    assert run.result == "RuntimeError: cannot connect with '***'"
    assert "***" in str(run.attempts["traceback"].iloc[0])
    nowhere(place, VALUE)


class Client:
    """Something of a library that keeps the password it was given."""

    def __init__(self, password: str) -> None:
        self.password = password


PAYLOADS: dict[str, Callable[[], Any]] = {
    "text": lambda: {"dsn": f"postgres://me:{DWH.get()}@host"},
    "bytes": lambda: [b"x", DWH.get().encode()],
    "frame": lambda: pd.DataFrame({"password": [DWH.get()] * 200}),
    "array": lambda: np.array([DWH.get()]),
    "pickle": lambda: Client(DWH.get()),
    "long": lambda: ["x" * 100_000, DWH.get()],
}
ACTS: dict[str, Callable[[Context], Any]] = {
    "artifact": lambda ctx: ctx.artifact("client", Client(DWH.get())),
    "state": lambda ctx: ctx.state.set("dsn", f"postgres://me:{DWH.get()}@host"),
    "name": lambda ctx: ctx.state.set(DWH.get(), 1),
}


def test_a_payload_that_holds_the_value_is_refused_as_it_could_not_arrive_as_it_was_sent(place: Site) -> None:
    flow = place.flow()

    @flow.entry(emits=["out", "other"])
    def send(what: str, ctx: Context) -> None:
        if what in ACTS:
            ACTS[what](ctx)
        else:
            ctx.emit("out", PAYLOADS[what]())

    runs = {what: flow.start(what=what) for what in [*PAYLOADS, *ACTS]}
    for what, run in runs.items():
        words = ("holds the value of the secret 'DWH_PASSWORD'", "Send Secret('DWH_PASSWORD') itself")
        failure_of(run, *words) if what != "name" else failure_of(run, words[0])
    nowhere(place, VALUE)


def test_what_is_left_by_a_worker_that_is_killed_is_masked_too(place: Site) -> None:
    flow = place.flow()

    @flow.entry
    def die(ctx: Context) -> None:
        import signal

        if ctx.log and not os.environ.get("DIED"):
            os.write(1, b"last words: " + DWH.get().encode() + b"\n")
            os.kill(os.getpid(), signal.SIGKILL)

    run = flow.start()
    wait_until(lambda: [m for m in run.logs["message"] if "last words" in str(m)], what=lambda: run.events)
    assert {str(m) for m in run.logs["message"] if "last words" in str(m)} == {"last words: ***"}
    if run.status == "running":
        run.cancel()
    ended(run)
    nowhere(place, VALUE)


def test_a_missing_secret_fails_its_step_with_a_word_of_where_to_put_it_and_a_resume_goes_on(place: Site) -> None:
    flow = place.flow()
    late = Secret(f"LATE_{os.getpid()}")

    @flow.entry
    def connect() -> int:
        return len(late.get())

    run = ended(flow.start())
    failure_of(run, f"There is no secret '{late.name}' here.", f"nbflow secret set {late.name}")
    (place.folder / ".nbflow" / "secrets" / late.name).write_text("now it is here\n")
    assert ended(run.resume()).result == len("now it is here")


def connects_with(password: str) -> Callable[..., Any]:
    def connect(host: str) -> int:
        return len(password)

    return connect


def test_code_that_carries_a_value_that_was_read_is_not_packed(place: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DWH.name, VALUE)
    flow: Flow = place.flow()
    with veil.only_here():
        flow.entry(connects_with(DWH.get()))
        with pytest.raises(CaptureError, match=r"carries the value of the secret 'DWH_PASSWORD'.*Refer to Secret"):
            flow.start(host="here")
        flow.entry(connects_with("something else"))
        with pytest.raises(PayloadError, match=r"holds the value of the secret 'DWH_PASSWORD'"):
            flow.start(host=VALUE)
    nowhere(place, VALUE)


def test_an_isolated_step_masks_it_too_and_so_does_who_ships_its_output(place: Site) -> None:
    """The process learns the value; the output of its programs is masked by its worker."""
    flow = place.flow()

    @flow.entry(isolation="process")
    def reveals() -> None:
        value = PEM.get().splitlines()[1]
        print("printed", value)
        os.system(f"echo 'a program says {value}'")
        raise RuntimeError(f"raised {value}")

    with veil.only_here():
        run = flow.start().wait(90, progress=False)
    assert list(run.logs["message"]) == ["printed ***", "a program says ***"]
    assert "raised ***" in run.view.tasks["reveals"].attempts[-1].error
