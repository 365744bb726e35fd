"""Where the bytes of artifacts lie, and that they are what they were when they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbflow.errors import ArtifactMissing, PayloadError, SignatureMismatch, StoreError
from nbflow.model.artifacts import digest_of
from nbflow.model.codec import Codec
from nbflow.store.artifacts import BlobCache, StoredArtifacts

BIG = os.urandom(1) * 5000
SMALL = b"small"


class Client:
    """A dict that answers as Redis does, and counts."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.calls: list[str] = []

    def get(self, name: str) -> bytes | None:
        self.calls.append("get")
        return self.keys.get(name)

    def set(self, name: str, value: bytes) -> bool:
        self.calls.append("set")
        self.keys[name] = value
        return True

    def exists(self, *names: str) -> int:
        return sum(name in self.keys for name in names)

    def delete(self, *names: str) -> int:
        return sum(self.keys.pop(name, None) is not None for name in names)


def artifacts(client: Client, directory: Any = None, **options: Any) -> StoredArtifacts:
    return StoredArtifacts(client, "p:artifact:{}".format, directory, limit=1000, **options)


def put(store: StoredArtifacts, blob: bytes) -> str:
    digest = digest_of(blob)
    store.put(digest, blob, {"$ref": digest})
    return digest


@pytest.fixture(params=["directory", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Both kinds of artifact store pass the same exam."""
    return tmp_path / "artifacts" if request.param == "directory" else f"local://{tmp_path}/artifacts"


def test_small_artifacts_lie_in_redis_and_large_ones_in_the_store(place: Any, tmp_path: Path) -> None:
    client = Client()
    small, big = (put(artifacts(client, place), blob) for blob in (SMALL, BIG))
    assert client.keys == {f"p:artifact:{small}": SMALL}
    assert (tmp_path / "artifacts" / big[:2] / big).read_bytes() == BIG
    reader = artifacts(client, place)
    assert bytes(reader.get(small)) == SMALL
    assert bytes(reader.get(big)) == BIG


def test_a_digest_that_is_there_is_done(place: Any, tmp_path: Path) -> None:
    store = artifacts(Client(), place)
    digest = put(store, BIG)
    path = tmp_path / "artifacts" / digest[:2] / digest
    before = path.stat().st_mtime_ns
    put(store, BIG)
    assert path.stat().st_mtime_ns == before
    assert [child.name for child in path.parent.iterdir()] == [digest], "no temporary file stays"


def test_a_half_written_file_is_written_again(tmp_path: Path) -> None:
    """A crash of the machine may leave a short file under the right name."""
    store = artifacts(Client(), tmp_path)
    digest = put(store, BIG)
    path = tmp_path / digest[:2] / digest
    path.write_bytes(BIG[:10])
    put(store, BIG)
    assert path.read_bytes() == BIG


def test_without_a_store_a_large_artifact_is_refused_with_the_next_move() -> None:
    with pytest.raises(PayloadError, match="NBFLOW_ARTIFACTS"):
        put(artifacts(Client()), BIG)


@pytest.mark.parametrize("with_store", [True, False])
def test_what_is_nowhere_is_missing(tmp_path: Path, with_store: bool) -> None:
    with pytest.raises(ArtifactMissing, match="NBFLOW_ARTIFACTS"):
        artifacts(Client(), tmp_path if with_store else None).get("0" * 32)


def test_changed_bytes_are_refused(place: Any, tmp_path: Path) -> None:
    client = Client()
    small, big = (put(artifacts(client, place), blob) for blob in (SMALL, BIG))
    client.keys[f"p:artifact:{small}"] = b"other"
    (tmp_path / "artifacts" / big[:2] / big).write_bytes(b"x" * len(BIG))
    for digest in (small, big):
        with pytest.raises(SignatureMismatch, match="have changed"):
            artifacts(client, place).get(digest)


def test_blobs_of_redis_are_read_once() -> None:
    client = Client()
    store = artifacts(client)
    digest = put(store, SMALL)
    client.calls.clear()
    assert store.get(digest) == store.get(digest) == SMALL
    assert client.calls == ["get"]


def test_a_mapped_blob_is_the_callers_own(tmp_path: Path) -> None:
    """It is mapped privately: writing changes neither the file nor what others see."""
    store = artifacts(Client(), tmp_path)
    digest = put(store, BIG)
    mine = store.get(digest)
    assert isinstance(mine, memoryview)
    mine[0:3] = b"abc"
    assert bytes(store.get(digest)) == BIG
    assert (tmp_path / digest[:2] / digest).read_bytes() == BIG


def test_a_large_array_is_opened_where_it_lies_and_can_be_written_to(tmp_path: Path) -> None:
    codec = Codec(artifacts=artifacts(Client(), tmp_path))
    array = np.arange(10_000.0)
    text = codec.encode(array)
    mine = codec.decode(text)
    mine[:] = 0
    assert np.array_equal(codec.decode(text), array)


def test_deleted_artifacts_are_missing(place: Any) -> None:
    store = artifacts(Client(), place)
    for blob in (SMALL, BIG):
        digest = put(store, blob)
        store.get(digest)
        store.delete(digest)
        store.delete(digest)
        with pytest.raises(ArtifactMissing):
            store.get(digest)


def test_an_artifact_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        put(artifacts(Client(), tmp_path / "file"), BIG)


def test_a_url_that_no_file_system_knows_is_refused() -> None:
    with pytest.raises(StoreError, match="NBFLOW_ARTIFACTS"):
        artifacts(Client(), "nosuch://place")


def test_the_cache_holds_no_more_bytes_than_it_may() -> None:
    cache = BlobCache(100)
    for name in "abc":
        cache.put(name, b"x" * 40)
    assert cache.get("a") is None
    assert cache.get("b") == b"x" * 40
    cache.put("d", b"x" * 40)
    assert cache.get("c") is None, "the one that was not used went"
    cache.put("huge", b"x" * 101)
    assert cache.get("huge") is None
    assert len(cache) == 2
    cache.drop("b")
    cache.put("e", b"x" * 60)
    assert len(cache) == 2
