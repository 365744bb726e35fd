"""A run in a file: it comes back as it was, without a server, and a file that lies is refused with one sentence."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbflow
from nbflow import Context, collect, each
from nbflow.app import use
from nbflow.errors import ArtifactMissing, CommandRefused, NbflowError, SignatureMismatch
from nbflow.model.artifacts import Unopened
from nbflow.watch.run import Run
from tests.site import Site

RUN = "0" * 32


def exported(site: Site) -> Run:
    flow = site.flow()

    @flow.entry
    def sizes(ctx: Context) -> list[int]:
        ctx.log.info("said", n=3)
        ctx.metric("loss", 0.5, step=1)
        ctx.state.set("a", 1)
        return [20_000, 30_000]

    @flow.step(each(sizes))
    def make(size: int) -> Any:
        return np.arange(size)

    @flow.step(collect(make))
    def both(made: list[Any]) -> Any:
        return {"sum": int(sum(part.sum() for part in made)), "parts": made, "odd": functools.partial(int, base=2)}

    run = flow.start().wait(30, progress=False)
    assert run.status == "completed", run.error
    return run


def test_a_run_comes_back_from_its_file_without_a_server(site: Site, tmp_path: Path):
    run = exported(site)
    path = run.export(tmp_path / "run.nbflow")
    assert [one.name for one in tmp_path.iterdir()] == ["run.nbflow"], "nothing half written is left"
    before = nbflow.app.current_default()
    use(None)
    try:
        back = nbflow.load(path)
        assert (back.id, back.flow, back.status) == (run.id, run.flow, "completed")
        for table in ("tasks", "attempts", "events", "logs", "metrics", "artifacts"):
            pd.testing.assert_frame_equal(getattr(back, table), getattr(run, table))
        assert back.state == {"a": 1}
        assert back.picture == run.picture
        assert back._repr_mimebundle_() is not None
        result = back.result
        assert result["sum"] == run.result["sum"]
        assert np.array_equal(result["parts"][1], np.arange(30_000))
        assert np.array_equal(back["make"][0], np.arange(20_000))
        assert isinstance(result["odd"], Unopened)
        assert run.result["odd"]("11") == 3
        assert back.wait() is back
        assert [event.id for event in back.follow()] == [event.id for event in run.follow()]
        for refused in (back.cancel, back.delete):
            with pytest.raises(CommandRefused):
                refused()
        again = back.export(tmp_path / "again.nbflow")
        pd.testing.assert_frame_equal(nbflow.load(again).events, run.events)
        assert nbflow.app.current_default() is None
    finally:
        use(before)


def test_a_failed_run_and_one_that_goes_on_are_exported_too(site: Site, tmp_path: Path):
    flow = site.flow()

    @flow.entry
    def bad() -> None:
        raise ValueError("boom")

    run = flow.start().wait(30, progress=False)
    back = nbflow.load(run.export(tmp_path / "failed.nbflow"))
    assert str(back.error) == str(run.error)
    late = flow.options(delay="1h").start()
    assert nbflow.load(late.export(tmp_path / "late.nbflow")).status == "awaiting"
    late.cancel()


def test_a_place_that_cannot_be_written_is_said(site: Site, tmp_path: Path):
    flow = site.flow()

    @flow.entry
    def nothing() -> None: ...

    run = flow.start().wait(30, progress=False)
    with pytest.raises(CommandRefused, match="cannot be written"):
        run.export(tmp_path / "nowhere" / "run.nbflow")


# -- files that lie -----------------------------------------------------------------------------------------------------

META = json.dumps({"format": 1, "run": RUN, "flow": "f", "missing": 0})
START = {"id": "1-1", "type": "flow.start", "task": "", "attempt": 0, "data": {"input": {}}}


def event(**other: Any) -> str:
    return json.dumps(START | other)


def archive(path: Path, *more: tuple[str, bytes], meta: str = META, events: str = event()) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("meta.json", meta)
        out.writestr("events.jsonl", events)
        for name, blob in more:
            out.writestr(name, blob)
    return path


def test_the_smallest_file_of_all_is_read(tmp_path: Path):
    """Else those below might be refused for another reason."""
    assert nbflow.load(archive(tmp_path / "a")).status == "running"


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "no file": lambda path: path.exists(),
    "no zip": lambda path: path.write_bytes(b"no zip at all"),
    "empty": lambda path: path.write_bytes(b""),
    "a directory": lambda path: path.mkdir(),
    "half a zip": lambda path: path.write_bytes(archive(path).read_bytes()[:80]),
    "path traversal": lambda path: archive(path, ("../../evil", b"x")),
    "an absolute path": lambda path: archive(path, ("/etc/evil", b"x")),
    "traversal below artifacts": lambda path: archive(path, ("artifacts/../../evil", b"x")),
    "an artifact that is compressed": lambda path: archive(path, ("artifacts/" + "a" * 32, b"0" * 10_000_000)),
    "a huge meta": lambda path: archive(path, meta=" " * 50_000_000),
    "a huge line": lambda path: archive(path, events=" " * 70_000_000),
    "meta that is junk": lambda path: archive(path, meta="{"),
    "meta that is a list": lambda path: archive(path, meta="[]"),
    "meta without a run": lambda path: archive(path, meta='{"format": 1}'),
    "a run that is a number": lambda path: archive(path, meta='{"format": 1, "run": 7, "flow": "f"}'),
    "another format": lambda path: archive(path, meta=META.replace('"format": 1', '"format": 2')),
    "events that are junk": lambda path: archive(path, events="nonsense"),
    "an event that is a number": lambda path: archive(path, events="7"),
    "an event without data": lambda path: archive(path, events='{"id": "1-1"}'),
    "an id that is none": lambda path: archive(path, events=event(id="../1")),
    "an id that is a list": lambda path: archive(path, events=event(id=[])),
    "a time beyond all": lambda path: archive(path, events=event(id="9999999999999-1\n")),
    "data that is a list": lambda path: archive(path, events=event(data=[])),
    "an attempt beyond all": lambda path: archive(path, events=event(attempt=10**30)),
    "an attempt below all": lambda path: archive(path, events=event(attempt=-1)),
    "an order that is wrong": lambda path: archive(path, events=event(id="2-1") + "\n" + event()),
    "nested too deep": lambda path: archive(path, events='{"a":' * 100_000),
    "bytes that are no text": lambda path: archive(
        path, events="\udcff".encode("utf-8", "surrogatepass").decode("latin1")
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_lies_is_refused_with_one_sentence(what: str, tmp_path: Path):
    HOSTILE[what](tmp_path / "a.nbflow")
    with pytest.raises(NbflowError) as told:
        nbflow.load(tmp_path / "a.nbflow")
    assert told.value.hint
    assert len(str(told.value)) < 700
    assert {one.name for one in tmp_path.iterdir()} <= {"a.nbflow"}


def stored(path: Path, digest: str, blob: bytes) -> Path:
    ref = {"$ref": digest, "kind": "bytes", "type": "bytes", "bytes": len(blob)}
    with zipfile.ZipFile(archive(path, events=event(data={"input": ref})), "a", zipfile.ZIP_STORED) as out:
        if blob:
            out.writestr("artifacts/" + digest, blob)
    return path


def test_an_artifact_that_is_not_what_its_name_says_is_not_opened(tmp_path: Path):
    with pytest.raises(SignatureMismatch):
        _ = nbflow.load(stored(tmp_path / "a", "a" * 32, b"other bytes")).input


def test_an_artifact_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(ArtifactMissing):
        _ = nbflow.load(stored(tmp_path / "a", "a" * 32, b"")).input
