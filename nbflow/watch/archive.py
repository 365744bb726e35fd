"""A run in one file: a zip of `meta.json`, `events.jsonl` and `artifacts/<digest>`, without pickles and without code.

Whoever reads one trusts nobody: names are known ones, sizes are bounded, artifacts lie uncompressed (so that none is
larger than the file) and are verified by their digests, and nothing is written to disk.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from nbflow.errors import ArtifactMissing, CommandRefused, NbflowError, SignatureMismatch
from nbflow.model.artifacts import ArtifactStore, Blob, digest_of
from nbflow.model.decoder import from_json
from nbflow.model.events import Event
from nbflow.watch.references import references

__all__ = ["FORMAT", "ArchivedArtifacts", "Contents", "read_archive", "write_archive"]

FORMAT = 1
META, EVENTS, ARTIFACTS = "meta.json", "events.jsonl", "artifacts/"
LARGEST_META = 64 * 1024
LARGEST_EVENTS = 1024**3
"""Bytes of all events together, unpacked."""
LARGEST_LINE = 64 * 1024**2
MOST_ATTEMPTS = 2**31
"""Tables hold no numbers of any size."""

_DIGEST = re.compile(r"[0-9a-f]{32}")
_ID = re.compile(r"\d{1,13}-\d{1,15}", re.ASCII)
_TEXT = re.compile(r"[^\x00-\x1f]{0,1000}")


class Readable(Protocol):
    """Where the events of a run are read from."""

    def flow_of(self, run_id: str, /) -> str: ...
    def read(self, run_id: str, after: str = "0-0", /, *, logs: bool = True) -> Iterator[Event]: ...


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds but its artifacts, which are read when they are looked at."""

    path: Path
    run_id: str
    flow: str
    events: list[Event]


# -- writing ------------------------------------------------------------------------------------------------------------


def write_archive(path: str | Path, run_id: str, log: Readable, artifacts: ArtifactStore | None) -> Path:
    """Write the run as it is now. The file is there whole or not at all; one of that name is replaced."""
    target = Path(path)
    flow = log.flow_of(run_id)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            wanted = _write_events(archive, log.read(run_id))
            missing = _write_artifacts(archive, wanted, artifacts)
            meta = {"format": FORMAT, "run": run_id, "flow": flow, "missing": missing}
            archive.writestr(META, json.dumps(meta))
        temporary.replace(target)
    except OSError as error:
        raise CommandRefused(f"{target} cannot be written: {error}.", hint="Choose another place.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def _write_events(archive: zipfile.ZipFile, events: Iterator[Event]) -> dict[str, str]:
    """Write them; the artifacts that they refer to, with their kinds."""
    wanted: dict[str, str] = {}
    with archive.open(EVENTS, "w", force_zip64=True) as out:
        for event in events:
            said = {
                "id": event.id,
                "type": event.type,
                "task": event.task,
                "attempt": event.attempt,
                "data": event.data,
            }
            out.write(json.dumps(said, separators=(",", ":")).encode() + b"\n")
            wanted.update(_wanted(event.data))
    return wanted


def _write_artifacts(archive: zipfile.ZipFile, wanted: dict[str, str], artifacts: ArtifactStore | None) -> int:
    """Write all but pickles, also those that others refer to; how many are not there any more."""
    missing, front = 0, list(wanted.items())
    while front and artifacts is not None:
        digest, kind = front.pop()
        if kind == "pickle":
            continue
        try:
            blob = artifacts.get(digest)
        except NbflowError:
            missing += 1
            continue
        new = [inner for inner in _wanted(_json_of(blob)) if inner[0] not in wanted] if kind == "json" else []
        wanted.update(new)
        front += new
        entry = zipfile.ZipInfo(ARTIFACTS + digest)
        entry.file_size = len(blob)
        with archive.open(entry, "w", force_zip64=True) as out:
            out.write(blob)
    return missing


def _json_of(blob: Blob) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return from_json(str(blob, "utf-8"))
    return None


def _wanted(tree: Any) -> Iterator[tuple[str, str]]:
    """Digest and kind of each artifact that it refers to."""
    for ref in references(tree):
        if _DIGEST.fullmatch(ref["$ref"]):
            yield ref["$ref"], str(ref.get("kind"))


# -- reading ------------------------------------------------------------------------------------------------------------


def read_archive(path: str | Path) -> Contents:
    """What the file holds. CommandRefused says why it is none of ours, or what is wrong with it."""
    place = Path(path)
    with _translated(place), zipfile.ZipFile(place) as archive:
        _check_names(archive)
        meta = from_json(_read(archive, META, LARGEST_META).decode())
        if not isinstance(meta, dict) or cast("dict[str, Any]", meta).get("format") != FORMAT:
            raise CommandRefused(
                f"{place} is of a format that this nbflow does not read.",
                hint="Use the nbflow that wrote it, or a newer one.",
            )
        facts = cast("dict[str, Any]", meta)
        run_id, flow = _checked_text(facts["run"]), _checked_text(facts["flow"])
        if archive.getinfo(EVENTS).file_size > LARGEST_EVENTS:
            raise ValueError("it holds too much")
        with archive.open(EVENTS) as lines:
            return Contents(place, run_id, flow, list(_events(lines, run_id, flow)))


class ArchivedArtifacts:
    """The artifacts of such a file, each read and verified when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        raise CommandRefused("A run from a file is only looked at.", hint="Start the flow to make another.")

    def get(self, digest: str) -> Blob:
        with _translated(self._path), zipfile.ZipFile(self._path) as archive:
            try:
                entry = archive.getinfo(ARTIFACTS + digest)
            except KeyError:
                raise ArtifactMissing(
                    f"The artifact {digest[:12]} is not in {self._path}.",
                    hint="It is a pickle, or it was gone when the run was exported.",
                ) from None
            blob = _read(archive, entry.filename, entry.compress_size)
        if digest_of(blob) != digest:
            raise SignatureMismatch(
                f"The artifact {digest[:12]} in {self._path} is not what was written.", hint="Export the run again."
            )
        return blob


def _check_names(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = Counter(entry.filename for entry in entries)
    for entry in entries:
        name = entry.filename
        is_artifact = name.startswith(ARTIFACTS) and bool(_DIGEST.fullmatch(name.removeprefix(ARTIFACTS)))
        if not (is_artifact or name in (META, EVENTS)) or names[name] > 1:
            raise ValueError(f"it holds {name[:60]!r}")
        if is_artifact and (entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size):
            raise ValueError(f"its artifact {name[10:22]} is compressed")
    if not {META, EVENTS} <= names.keys():
        raise ValueError("it holds no run")


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    with archive.open(name) as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"{name} is too large")
    return text


def _events(lines: IO[bytes], run_id: str, flow: str) -> Iterator[Event]:
    last, size = (0, 0), 0
    while line := lines.readline(LARGEST_LINE + 1):
        size += len(line)
        if len(line) > LARGEST_LINE or size > LARGEST_EVENTS:
            raise ValueError("it holds too much")
        event = _event(from_json(line.decode()), run_id, flow)
        ms, _, number = event.id.partition("-")
        if (int(ms), int(number)) < last:
            raise ValueError("its events are not in their order")
        last = int(ms), int(number)
        yield event


def _event(said: Any, run_id: str, flow: str) -> Event:
    data, attempt = said["data"], said["attempt"]
    is_count = type(attempt) is int and 0 <= attempt < MOST_ATTEMPTS
    if not isinstance(data, dict) or not is_count or not _ID.fullmatch(said["id"]):
        raise ValueError("one of its events is damaged")
    kind, task = _checked_text(said["type"]), _checked_text(said["task"])
    return Event(said["id"], kind, run_id, flow, task, attempt, cast("dict[str, Any]", data))


def _checked_text(value: Any) -> str:
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise ValueError("one of its names is damaged")
    return value


@contextlib.contextmanager
def _translated(place: Path) -> Generator[None]:
    try:
        yield
    except NbflowError:
        raise
    except FileNotFoundError as error:
        raise CommandRefused(f"There is no file {place}.", hint="run.export(…) writes one.") from error
    except OSError as error:
        raise CommandRefused(f"{place} cannot be read: {error}.", hint="Check the file and its rights.") from error
    except Exception as error:  # a zip is damaged in as many ways as there are readers of it
        raise CommandRefused(
            f"{place} is no run that nbflow has exported ({str(error)[:200] or type(error).__name__}).",
            hint="Export the run again.",
        ) from error
