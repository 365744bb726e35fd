"""The handle of a run: what it says at every stage, results, waiting, tables."""

from __future__ import annotations

import _thread
import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from nbflow.errors import CommandRefused, NotEnded, RunEnded, StepFailure, UnknownRun
from nbflow.model.codec import Codec
from nbflow.model.view import View
from nbflow.model.waiting import Question
from nbflow.store.connect import Store
from nbflow.store.log import RunLog
from nbflow.watch.follow import Follower
from nbflow.watch.progress import show_progress_with
from nbflow.watch.run import Run, show_runs_with
from nbflow.watch.task import Acts
from tests.servers import running_server


class Backend:
    """A composition root with what a handle needs, and a pen that writes events as the scripts do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.follower = Follower(store)
        self.canceled: list[tuple[str, str]] = []
        self.deleted: list[str] = []
        self._write = store.text.register_script(
            "local id = redis.call('XADD', KEYS[1], '*', 'type', ARGV[1], 'task', ARGV[2], 'attempt', ARGV[3], 'data', ARGV[4]) "
            "redis.call('PUBLISH', KEYS[2], cjson.encode({id = id, type = ARGV[1], task = ARGV[2], attempt = ARGV[3], data = cjson.decode(ARGV[4])})) "
            "return id"
        )
        store.text.hset(store.keys.run("r1"), mapping={"flow": "etl", "status": "running"})
        self.write(
            "flow.start",
            input={"folder": {"$t": "path", "v": "data"}},
            graph={"flow": "etl", "nodes": [{"name": "parse", "mapped": True}, {"name": "merge"}], "edges": []},
        )

    @property
    def log(self) -> RunLog:
        return RunLog(self.store)

    def codec_for(self, run_id: str) -> Codec:
        return Codec()

    def handle(self, run_id: str, flow: str) -> Run:
        return Run(run_id, self, flow=flow)

    def delete(self, run_id: str) -> None:
        self.deleted.append(run_id)

    def resolve(self, run_id: str, question: Question, data: Any) -> None:
        raise AssertionError(f"nobody answers here: {run_id} {question} {data}")

    @property
    def hands(self) -> Acts:
        raise AssertionError("nothing is done to tasks here")

    def cancel(self, run_id: str, reason: str) -> None:
        self.canceled.append((run_id, reason))

    def again(self, run_id: str, how: str, *, at: str | None = None, changed: bool = False) -> Run:
        raise AssertionError("nobody goes on from here")

    def foresee(self, run_id: str, flow: Any, *, changed: bool) -> Any:
        raise AssertionError("nobody goes on from here")

    def write(self, kind: str, task: str = "", attempt: int = 0, **data: Any) -> str:
        keys = [self.store.keys.stream("r1"), self.store.keys.events_channel("r1")]
        return str(self._write(keys=keys, args=[kind, task, attempt, json.dumps(data)]))

    def complete(self, task: str, result: Any = None, key: str | None = None) -> None:
        self.write("step.queued", task, 1, **({"key": key} if key else {}))
        self.write("step.started", task, 1, worker="w")
        self.write("step.completed", task, 1, result=result)

    def fail(self, task: str) -> None:
        self.write("step.queued", task, 1)
        self.write("step.started", task, 1, worker="w")
        trace = 'Traceback (most recent call last):\n  File "<cell 3>", line 4, in parse\nValueError: bad line\n'
        self.write("step.failed", task, 1, error="ValueError: bad line", traceback=trace, reason="error")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server("redis", tmp_path_factory.mktemp("server")) as running:
        yield running.url


@pytest.fixture
def backend(server: str) -> Iterator[Backend]:
    store = Store(server)
    backend = Backend(store)
    yield backend
    backend.follower.close()
    store.client.flushall()
    store.close()


@pytest.fixture
def run(backend: Backend) -> Run:
    return Run("r1", backend)


Later = Callable[[float, Callable[[], Any]], None]


@pytest.fixture
def later(backend: Backend) -> Iterator[Later]:
    """Does something in a while, in a thread. It is over before the store is closed, else redis-py would connect again and
    write once more, into the next test's run."""
    timers: list[threading.Timer] = []

    def begin(seconds: float, act: Callable[[], Any]) -> None:
        timers.append(threading.Timer(seconds, act))
        timers[-1].start()

    yield begin
    for timer in timers:
        timer.join()


def test_one_leaf_is_the_result(backend: Backend, run: Run) -> None:
    backend.complete("merge", {"rows": 3})
    with pytest.raises(NotEnded, match=r"has not ended: it is running\. Wait for it with run\.wait\(\)"):
        run.result  # noqa: B018
    backend.write("flow.completed", leaves=["merge"])
    assert run.status == "completed"
    assert run.result == {"rows": 3}
    assert run.error is None


def test_several_leaves_are_a_dict_and_none_is_none(backend: Backend, run: Run) -> None:
    backend.complete("a", 1)
    backend.complete("b[10]", "y")
    backend.complete("b[2]", "x")
    backend.write("flow.completed", leaves=["a", "b"])
    assert run.result == {"a": 1, "b": ["x", "y"]}


def test_no_leaf_is_none(backend: Backend, run: Run) -> None:
    backend.write("flow.completed", leaves=[])
    assert run.result is None


def test_a_mapped_leaf_without_elements_is_an_empty_list(backend: Backend, run: Run) -> None:
    backend.write("flow.completed", leaves=["parse"])
    assert run.result == []
    assert list(run["parse"]) == []


def test_elements_are_found_by_index_key_and_order(backend: Backend, run: Run) -> None:
    """Law: a number is the task's index, a text its key; order compares number by number."""
    for n in (10, 2, 0):
        backend.complete(f"parse[{n}]", n * 100, key=f"{n}.csv")
    backend.complete("deep[2.1]", "below")
    parse = run["parse"]
    assert list(parse) == [0, 200, 1000]
    assert (parse[10], parse["2.csv"], parse[-1], parse[1:], len(parse)) == (1000, 200, 1000, [200, 1000], 3)
    assert run["deep"][2, 1] == "below"
    assert dict(parse.items()) == {"0.csv": 0, "2.csv": 200, "10.csv": 1000}
    assert repr(parse) == "<results of 'parse': 3 of 3>"
    with pytest.raises(IndexError, match="no task of index 1"):
        parse[1]
    with pytest.raises(CommandRefused, match=r"Did you mean '10\.csv'"):
        parse["10.cvs"]


def test_a_graph_that_lies_elsewhere_is_fetched(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: above 4 KiB `flow.start` refers to it; if its bytes are gone a run is still a run."""
    backend.store.text.delete(backend.store.keys.stream("r1"))
    graph = {"flow": "etl", "nodes": [{"name": "parse", "mapped": True}], "edges": []}
    backend.write("flow.start", input={}, graph={"$ref": "d", "kind": "json", "bytes": 5000})
    backend.write("flow.completed", leaves=[])
    run = Run("r1", backend)
    with pytest.raises(CommandRefused, match="did not run"):
        run["parse"]
    monkeypatch.setattr(Codec, "decode_value", lambda *_: graph)
    assert list(run["parse"]) == []


def test_a_step_is_named_by_its_function_too(backend: Backend, run: Run) -> None:
    def merge() -> None: ...

    merge.step = SimpleNamespace(spec=SimpleNamespace(name="merge"))  # pyright: ignore[reportFunctionMemberAccess]
    backend.complete("merge", 5)
    assert run[merge] == 5
    assert merge in run
    assert "nope" not in run


def test_a_failure_names_the_step_the_line_and_the_next_move(backend: Backend, run: Run) -> None:
    backend.complete("parse[0]", 1)
    backend.fail("parse[1]")
    backend.write("step.skipped", "merge", reason="short")
    backend.write("flow.failed", error="ValueError: bad line", failedStep="parse", reason="step")
    with pytest.raises(StepFailure) as caught:
        run.result  # noqa: B018
    error = caught.value
    assert (error.step, error.task, error.error, error.run_id) == ("parse", "parse[1]", "ValueError: bad line", "r1")
    assert str(error).startswith(
        "Step 'parse' failed at index 1 at line 4 of its cell: ValueError: bad line Correct the step"
    )
    assert "Traceback" in error.traceback
    assert str(run.error) == str(error)
    assert run["parse"][0] == 1
    with pytest.raises(StepFailure):
        run["parse"][1]
    with pytest.raises(CommandRefused, match=r"'merge' was skipped \(short\)"):
        run["merge"]


def test_a_canceled_run_says_so(backend: Backend, run: Run) -> None:
    backend.write("step.queued", "a", 1)
    assert run.cancel("wrong folder") is run
    assert backend.canceled == [("r1", "wrong folder")]
    backend.write("flow.cancel", reason="wrong folder")
    assert run.status == "canceled"
    with pytest.raises(RunEnded, match=r"was canceled \(wrong folder\)"):
        run.result  # noqa: B018
    backend.write("step.canceled", "a", 1, reason="run")
    assert run.tasks.status.tolist() == ["canceled"]


def test_a_step_that_is_unknown_or_not_yet_there_is_told_apart(backend: Backend, run: Run) -> None:
    backend.write("step.queued", "merge", 1)
    with pytest.raises(NotEnded, match="'merge' has not ended: it is queued"):
        run["merge"]
    with pytest.raises(CommandRefused, match=r"no step 'merg'\. Did you mean 'merge'"):
        run["merg"]


def test_a_run_is_awaiting_when_nothing_else_is_under_way(backend: Backend, run: Run) -> None:
    """Law: `awaiting` is derived; no event says it."""
    backend.complete("a")
    assert run.status == "running"
    view = run.view
    view.steps["a"].counts["awaiting"] = 1
    assert run.status == "awaiting"
    view.steps["a"].counts["queued"] = 1
    assert run.status == "running"


def test_waiting_ends_with_the_run(backend: Backend, run: Run, later: Later) -> None:
    later(0.1, lambda: (backend.complete("a", 1), backend.write("flow.completed", leaves=["a"])))
    assert run.wait(timeout=20) is run
    assert run.result == 1
    assert run.wait() is run


def test_waiting_too_long_leaves_the_run(run: Run) -> None:
    with pytest.raises(TimeoutError, match="It goes on"):
        run.wait(timeout=0.05)
    assert run.status == "running"


def test_ctrl_c_detaches_and_says_how_to_come_back(run: Run, later: Later, capsys: pytest.CaptureFixture[str]) -> None:
    """Law: interrupting the wait leaves the run, and raises nothing."""
    later(0.2, _thread.interrupt_main)
    assert run.wait(timeout=20) is run
    assert "nbflow.run('r1').wait()" in capsys.readouterr().out
    assert run.status == "running"


def test_waiting_shows_how_far_it_is(backend: Backend, run: Run, later: Later) -> None:
    """Law: what shows it is put in from outside, and is closed whatever happens."""
    seen: list[int] = []

    class Shown:
        def show(self, view: View, steps: dict[str, dict[str, Any]]) -> None:
            seen.append(view.events)

        def close(self, view: View) -> None:
            seen.append(-1)

    show_progress_with(Shown)
    try:
        later(0.1, lambda: (backend.complete("a"), backend.write("flow.completed", leaves=[])))
        run.wait(timeout=20)
    finally:
        show_progress_with(None)
    assert seen == [1, 2, 3, 4, 5, -1]


def test_a_run_can_be_awaited_and_followed(backend: Backend, run: Run, later: Later) -> None:
    async def all_of_it() -> Run:
        later(0.1, lambda: (backend.complete("a", 7), backend.write("flow.completed", leaves=["a"])))
        return await run

    assert asyncio.run(all_of_it()).result == 7
    assert [event.type for event in run.follow()][-1] == "flow.completed"


def test_what_went_in_and_what_it_remembers(backend: Backend, run: Run) -> None:
    backend.write("state", "a", 1, operation="set", key="n", value=[1])
    assert str(run.input["folder"]) == "data"
    assert run.state == {"n": [1]}
    assert run.flow == "etl"


def test_tables_of_a_run(backend: Backend, run: Run) -> None:
    backend.complete("a", {"$ref": "d", "kind": "arrow", "rows": 1, "bytes": 2})
    fields: Any = {"type": "log", "task": "a", "attempt": 1, "data": '{"level":"info","message":"hi"}'}
    ms = run.view.last_id.partition("-")[0]
    backend.store.text.xadd(backend.store.keys.log("r1"), fields, id=f"{int(ms) + 1}-0")
    assert run.events.type.tolist() == ["flow.start", "step.queued", "step.started", "step.completed", "log"]
    assert run.logs.message.tolist() == ["hi"]
    assert (len(run.metrics), len(run.attempts), len(run.tasks)) == (0, 1, 1)
    assert run.artifacts.digest.tolist() == ["d"]


def test_a_handle_reads_nothing_until_it_is_asked(backend: Backend) -> None:
    """Law: a handle of a run that does not exist can be made; asking it says so."""
    handle = Run("nope", backend)
    with pytest.raises(UnknownRun, match="no run 'nope'"):
        handle.status  # noqa: B018


def test_it_shows_itself_without_an_id(backend: Backend, run: Run) -> None:
    """Law: a saved notebook that is executed again shows the same text."""
    assert repr(run) == "<Run of 'etl': running>"
    bundle = run._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"}
    assert bundle["text/plain"] == "Run of 'etl': running, 2 steps"
    show_runs_with(lambda shown: {"text/plain": repr(shown), "text/html": "<b>"})
    try:
        assert set(run._repr_mimebundle_()) == {"text/plain", "text/html"}
    finally:
        show_runs_with(None)
    with pytest.raises(TypeError, match="not iterable"):
        iter(run)  # pyright: ignore[reportArgumentType, reportCallIssue]
