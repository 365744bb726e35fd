"""What is kept and what goes: whatever is started, ended, deleted, published and swept, and wherever somebody stops in
between, no key is without an owner, nothing that a run refers to is gone, and at the end nothing is left at all."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from nbflow.model.artifacts import digest_of
from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.connect import Store
from nbflow.store.dust import sweep
from nbflow.store.owners import Owner
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Machine, silent
from tests.property.profiles import examples

RUNS = st.sampled_from(["r1", "r2", "r3"])
LARGE = b"two, beside the server"
BLOBS = st.sampled_from([b"one", LARGE, b"three, beside the server"])
"""The longer two do not lie in the server."""
LIMIT = 10
ACTS = st.one_of(
    st.tuples(st.sampled_from(["own", "own", "comes and goes", "confirm late"]), RUNS, BLOBS),
    st.tuples(st.sampled_from(["launch", "work", "cancel", "delete", "retention is over"]), RUNS, st.none()),
    st.tuples(st.sampled_from(["retire", "sweep"]), st.none(), st.none()),
)


class _Kept:
    """Both sides: the server with a directory beside it, and which run refers to what."""

    def __init__(self, store: Store, place: Path) -> None:
        store.client.flushall()
        self.store, self.place = store, place
        self.machine = Machine(store, replace(chain(1), retention_s=3600.0))
        self.machine.birth("w")
        self.artifacts = StoredArtifacts(store.client, store.keys.artifact, place, limit=LIMIT)
        self.status: dict[str, str] = {}
        self.owned: dict[str, set[bytes]] = {}

    def own(self, run: str, blob: bytes) -> None:
        """As who is about to launch it, or as a worker."""
        if self.status.get(run) in ("completed", "canceled"):
            return
        owner = Owner(run, self._say, is_launched=run in self.status)
        self.artifacts.put_owned(owner, digest_of(blob), blob)
        self.owned.setdefault(run, set()).add(blob)

    def confirm_late(self, run: str, blob: bytes) -> None:
        """The bytes come when the run is gone: its worker did not know."""
        if run not in self.status and run not in self.owned and len(blob) > LIMIT:
            self.artifacts.put(digest_of(blob), blob, {})
            assert self._say(run=run, digest=digest_of(blob), how="there") == b"GONE"

    def launch(self, run: str) -> None:
        self.machine.upload()
        reply = self.machine.launch(run)[0]
        assert reply == (b"AGAIN" if run in self.status else b"OK")
        if reply == b"OK":
            self.status[run] = "running"
            self.owned.setdefault(run, set())

    def work(self, run: str) -> None:
        """Whichever is the next."""
        task = self.machine.claim()
        if task is not None:
            self.machine.settle(task, silent(f"step:{task.task}"))
            self.status[task.run] = "completed"

    def cancel(self, run: str) -> None:
        if self.status.get(run) == "running":
            self._say_script("cancel", id=run, reason='""', by="{}")
            self.status[run] = "canceled"

    def delete(self, run: str) -> None:
        status = self.status.get(run)
        reply = self._say_script("delete", id=run)
        while reply[0] == b"MORE":
            reply = self._say_script("delete", id=run)
        assert reply[0] == {None: b"UNKNOWN", "running": b"LIVE"}.get(status, b"OK")
        if reply[0] == b"OK":
            self._forget(run)

    def comes_and_goes(self, run: str, blob: bytes) -> None:
        """Up to where the bytes are nobody's."""
        self.own(run, blob)
        self.launch(run)
        self.cancel(run)
        self.delete(run)
        self.retire()

    def retention_is_over(self, run: str) -> None:
        """Of an ended run, or of one that was never launched. The next slice takes it away."""
        if self.status.get(run) != "running" and run in self.owned:
            self.store.client.zadd(self.store.keys.retire(), {run: 1}, xx=True)
            self._say_script("retire")
            if not self.store.client.exists(self.store.keys.run(run)):
                self._forget(run)

    def retire(self, *_: Any) -> None:
        self._say_script("retire")

    def sweep(self, *_: Any) -> None:
        self._say_script("swept")  # of nothing: the server knows the script from here on
        sweep(self.artifacts, self.store.client.execute_command, self.store.keys, self.store.scripts["swept"], 1)

    def check(self) -> None:
        assert leaks(self.store) == []
        runs = {key.rpartition(":")[2] for key in self.store.text.scan_iter("nbflow:run:*")}
        assert runs == set(self.status)
        for blobs in self.owned.values():
            for blob in blobs:
                found = StoredArtifacts(self.store.client, self.store.keys.artifact, self.place, limit=LIMIT)
                assert bytes(found.get(digest_of(blob))) == blob

    def end(self) -> None:
        """All that runs ends, and all that has ended goes."""
        for run in list(self.status):
            self.cancel(run)
        for run in list(self.owned):
            self.delete(run) if run in self.status else self.retention_is_over(run)
        while self.store.run_script("retire"):
            pass
        while self.store.client.exists(self.store.keys.dust()):
            self.sweep()
        left = [key for key in self.store.text.scan_iter() if "wake" not in key and not key.startswith("rq:")]
        uploaded = [self.store.keys.plan(self.machine.plan.digest), self.store.keys.bundle("b")]
        assert set(left) <= {"nbflow:queues", *uploaded}
        assert [path for path in self.place.rglob("*") if path.is_file()] == []

    def _forget(self, run: str) -> None:
        self.status.pop(run, None)
        self.owned.pop(run, None)

    def _say(self, *blob: bytes, **named: Any) -> Any:
        return self.store.run_script("own", *blob, **named)

    def _say_script(self, name: str, **named: Any) -> Any:
        return self.store.run_script(name, **named)


@examples(100)
@example([("comes and goes", "r1", LARGE), ("own", "r2", LARGE), ("sweep", None, None)])
@given(st.lists(ACTS, max_size=16))
def test_nothing_that_is_referred_to_goes_and_nothing_else_stays(valkey_store: Store, acts: list[Any]):
    with tempfile.TemporaryDirectory() as place:
        kept = _Kept(valkey_store, Path(place))
        for act, run, blob in acts:
            do = getattr(kept, act.replace(" ", "_"))
            do(*(part for part in (run, blob) if part is not None))
            kept.check()
        kept.end()
        kept.check()
