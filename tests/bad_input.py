"""What all tests of bad input ask: that nothing was written, and that an error is a sentence a person can act on."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nbflow.app import Nbflow
from nbflow.errors import NbflowError
from nbflow.watch.run import Run
from tests.servers import Kind, running_server
from tests.site import SECRET, Site

__all__ = ["AttemptFailure", "failure_of", "nothing_written", "private_site", "readable", "refused"]

_RAW = re.compile(
    r"errors\.pydantic\.dev|validation errors? for|redis\.exceptions|Traceback|object at 0x|\[type=|<class "
)


def readable(text: str) -> str:
    """The text, if it is one line of a few sentences, without the raw words of a library."""
    assert not _RAW.search(text), text
    assert "\n" not in text.strip(), text
    assert 20 < len(text) < 420, text
    assert text.rstrip()[-1] in ".?)", text
    return text


@contextmanager
def refused(kind: type[NbflowError], *words: str) -> Generator[None]:
    """Inside the block exactly this error is raised, its text is readable and says these words."""
    with pytest.raises(NbflowError) as caught:
        yield
    assert type(caught.value) is kind, f"{type(caught.value).__name__}: {caught.value}"
    _says(readable(str(caught.value)), words)


@contextmanager
def nothing_written(nbflow: Nbflow) -> Generator[None]:
    """After the block the server has the keys it had: no run, no job, no code, no artifact. Only where no worker lives."""
    before = _keys(nbflow)
    runs = len(nbflow.runs())
    yield
    assert _keys(nbflow) == before
    assert len(nbflow.runs()) == runs
    assert not [row for row in nbflow.index.queues() if row.waiting or row.started]


@contextmanager
def private_site(folder: Path, kind: Kind = "valkey") -> Generator[Site]:
    """A server of its own, which may be maltreated. It is not the default: start with `flow.options(on=site.nbflow)`."""
    with running_server(kind, folder) as server, Nbflow(server.url, secret=SECRET, project=folder) as opened:
        yield Site(server, opened, folder)


class AttemptFailure:
    """Why the only failed step of a run failed, as its events tell it."""

    def __init__(self, run: Run) -> None:
        run.wait(25, progress=False)
        assert run.status == "failed", (run.status, run.events)
        (data,) = [event.data for event in run.follow() if event.type == "step.failed"]
        self.error = str(data["error"])
        self.reason = str(data["reason"])
        self.text = str(run.error)


def failure_of(run: Run, *words: str, reason: str = "error") -> AttemptFailure:
    """The failure of a run that fails for this reason with these words, in a text that is readable."""
    failure = AttemptFailure(run)
    _says(readable(failure.error), words)
    assert failure.reason == reason
    return failure


def _says(text: str, words: tuple[str, ...]) -> None:
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in: {text}"


def _keys(nbflow: Nbflow) -> set[Any]:
    return set(nbflow.store.client.scan_iter(count=1000))
