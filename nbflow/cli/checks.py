"""What `doctor` looks at, each as one sentence with its hint. Changes nothing: it starts no stack and makes no secret."""

from __future__ import annotations

import importlib.metadata
import operator
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nbflow.errors import NbflowError

if TYPE_CHECKING:
    from nbflow.app import Nbflow
    from nbflow.store.connect import Store

__all__ = ["Check", "Status", "examine", "in_range"]

Status = Literal["ok", "warn", "fail"]
PACKAGES = ("redis", "rq", "hiredis", "pydantic", "cloudpickle", "pandas", "pyarrow", "networkx")
_LEAST_PYTHON = (3, 11)
_SLOW_MS = 10.0
_PINGS = 25
_FULL = 0.9
_COMPARED: dict[str, Callable[[list[int], list[int]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    hint: str = ""


def examine() -> list[Check]:
    """All checks, in the order in which one would mend what they find."""
    checks = [_python(), *map(_package, PACKAGES)]
    try:
        from nbflow.app import Nbflow

        nbflow = Nbflow()
    except NbflowError as error:  # a setting that cannot be used
        return [*checks, Check("settings", "fail", error.message, error.hint)]
    checks += [*_settings(), _secret(nbflow), _artifacts(nbflow)]
    url, stack_checks = _address(nbflow)
    checks += stack_checks
    return checks + (_server(url, nbflow.namespace, has_stack=bool(stack_checks)) if url else [])


def in_range(version: str, wanted: str) -> bool:
    """Whether a version is within `>=3.0,<3.1`. Compares numbers; what is not a number in a version ends it."""
    for sign, bound in re.findall(r"(>=|<=|==|!=|<|>)\s*([\d.]+)", wanted):
        width = max(version.count("."), bound.count(".")) + 1
        ours, theirs = _numbers(version, width), _numbers(bound, width)
        if not _COMPARED[sign](ours, theirs):
            return False
    return True


def _numbers(version: str, width: int) -> list[int]:
    found: list[int] = []
    for part in version.split("."):
        digits = re.match(r"\d+", part)
        if digits is None:
            break
        found.append(int(digits[0]))
    return (found + [0] * width)[:width]


# -- this machine -------------------------------------------------------------------------------------------------------


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _LEAST_PYTHON:
        return Check("python", "fail", f"Python {version}", "Use Python 3.11 or newer.")
    if sys.platform == "win32":
        hint = "Work in WSL for local workers; starting and following works here."
        return Check("python", "warn", f"Python {version} on Windows, where no workers run", hint)
    return Check("python", "ok", f"Python {version} ({sys.executable})")


def _package(name: str) -> Check:
    wanted = _required(name)
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "fail", f"{name} is not installed", f"pip install '{name}{wanted}'")
    if not in_range(version, wanted):
        return Check(name, "fail", f"{name} {version} is not within {wanted}", f"pip install '{name}{wanted}'")
    return Check(name, "ok", version)


def _required(name: str) -> str:
    """The range that nbflow asks for, from its metadata; empty if nbflow runs from a folder that is not installed."""
    try:
        lines = importlib.metadata.requires("nbflow") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    for line in lines:
        found = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*)", line)
        if found and found[1] == name and "extra ==" not in line:
            return found[2].strip().strip("()")
    return ""


def _settings() -> Iterator[Check]:
    from nbflow.settings import unknown_variables

    strangers = unknown_variables(os.environ)
    for sentence in strangers:
        yield Check("settings", "warn", sentence, "Correct or unset it.")
    if not strangers:
        yield Check("settings", "ok", "every NBFLOW_* variable means something")


def _secret(nbflow: Nbflow) -> Check:
    from nbflow.settings import settings

    if settings().secret is not None:
        return Check("secret", "ok", "NBFLOW_SECRET")
    path = nbflow.project.folder / "secret"
    if not path.exists():
        return _no_secret(path)
    status = path.stat()
    if os.name == "posix" and (status.st_mode & 0o077 or status.st_uid != os.geteuid()):
        return Check("secret", "fail", f"{path} is not this user's alone", f"Run: chmod 600 {path}")
    return Check("secret", "ok", f"{path}, private")


def _no_secret(path: Path) -> Check:
    """Whether one is made at the first start, by the rule of `Nbflow.signer`: asked in a folder that is thrown away."""
    from nbflow.app import Nbflow

    with tempfile.TemporaryDirectory() as folder:
        try:
            _ = Nbflow(project=folder).signer
        except NbflowError as error:
            return Check("secret", "fail", error.message, error.hint)
    return Check("secret", "ok", f"none yet; the first start makes {path}")


def _artifacts(nbflow: Nbflow) -> Check:
    place = nbflow.artifact_place
    if place is None:
        hint = "Set NBFLOW_ARTIFACTS to a directory or URL that every worker reaches."
        return Check("artifacts", "warn", "only in the server, up to 8 MiB each", hint)
    if "://" in place:
        return _remote_artifacts(place)
    folder = Path(place)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return Check("artifacts", "fail", f"{folder} is not writable: {error.strerror}", "Make it writable.")
    return Check("artifacts", "ok", f"{folder} is writable")


def _remote_artifacts(place: str) -> Check:
    try:
        import fsspec  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return Check("artifacts", "fail", f"{place} needs fsspec", "pip install 'nbflow[fsspec]'")
    probe = f"{place.rstrip('/')}/.nbflow-doctor"
    try:
        system, path = fsspec.core.url_to_fs(probe)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        system.pipe_file(path, b"")
        system.rm_file(path)
    except Exception as error:  # noqa: BLE001 - each store has errors of its own
        return Check(
            "artifacts", "fail", f"{place} is not writable: {error}", "Correct NBFLOW_ARTIFACTS or the rights."
        )
    return Check("artifacts", "ok", f"{place} is writable")


# -- the server ---------------------------------------------------------------------------------------------------------


def _address(nbflow: Nbflow) -> tuple[str, list[Check]]:
    """Where the server is, without starting one, and how the local stack is."""
    from nbflow.settings import settings

    if settings().redis_url:
        return settings().redis_url or "", []
    now = nbflow.stack.status()
    if not now.running:
        hint = "It starts by itself with the first flow; `nbflow up` starts it now."
        return "", [Check("stack", "warn", f"the local stack of {nbflow.project.root} is not running", hint)]
    checks = [Check("stack", "ok", f"runs with {now.workers} workers (keeper {now.pid})")]
    if now.trouble:
        checks = [Check("stack", "fail", now.trouble, "Read that log, then `nbflow down` and `nbflow up`.")]
    return now.url, [*checks, _socket(now.url)]


def _socket(url: str) -> Check:
    from nbflow.store.wire import parse_url

    path = Path(parse_url(url).path)
    if not path.is_socket():
        return Check("socket", "fail", f"there is no socket {path}", "Run `nbflow down`, then `nbflow up`.")
    if path.stat().st_mode & 0o077 and path.parent.stat().st_mode & 0o077:
        return Check("socket", "fail", f"{path} is open to other users", f"Run: chmod 700 {path}")
    return Check("socket", "ok", f"{path} ({len(os.fsencode(path))} bytes)")


def _server(url: str, namespace: str, *, has_stack: bool) -> list[Check]:
    from nbflow.store.connect import Store, translated
    from nbflow.store.wire import shown_url

    try:
        store = Store(url, namespace)
        version = store.check()
        with translated(url):
            info: dict[str, Any] = _client(store).info()
            found = [Check("server", "ok", f"{version} at {shown_url(url)}"), *_kept(info), _memory(info)]
            found += [_latency(store), *_workers(store, all_are_served=has_stack)]
    except NbflowError as error:
        return [Check("server", "fail", error.message, error.hint)]
    store.close()
    return found


def _client(store: Store) -> Any:
    return store.client  # redis-py leaves replies untyped


def _kept(info: dict[str, Any]) -> Iterator[Check]:
    if not info.get("aof_enabled"):
        hint = "Set `appendonly yes` in the server's configuration."
        yield Check("persistence", "warn", "no append-only file: a crash of the server loses runs", hint)
    elif str(info.get("aof_last_write_status", "ok")) != "ok":
        yield Check("persistence", "fail", "the server cannot write its append-only file", "Look at its disk.")
    else:
        yield Check("persistence", "ok", "append-only file")


def _memory(info: dict[str, Any]) -> Check:
    used, most, policy = (
        int(info.get("used_memory", 0)),
        int(info.get("maxmemory", 0)),
        info.get("maxmemory_policy", ""),
    )
    told = f"{used / 1e6:.0f} MB of {most / 1e6:.0f} MB" if most else f"{used / 1e6:.0f} MB, no limit"
    if policy not in ("", "noeviction"):
        status: Status = "fail" if most else "warn"
        hint = "Set `maxmemory-policy noeviction` in the server's configuration."
        return Check("memory", status, f"{told}; the server may drop keys ({policy})", hint)
    if most and used >= most * _FULL:
        return Check("memory", "fail", f"{told}: launches are refused", "Raise maxmemory, or delete runs.")
    return Check("memory", "ok", f"{told}, {policy}")


def _latency(store: Store) -> Check:
    client, took = _client(store), list[float]()
    for _ in range(_PINGS):
        began = time.perf_counter()
        client.ping()
        took.append((time.perf_counter() - began) * 1000)
    median = statistics.median(took)
    if median > _SLOW_MS:
        return Check("latency", "warn", f"{median:.1f} ms a round trip", "Run workers nearer to the server.")
    return Check("latency", "ok", f"{median:.2f} ms a round trip")


def _workers(store: Store, *, all_are_served: bool) -> Iterator[Check]:
    """The workers of a stack serve every queue, and are registered for those that they found at their start."""
    from nbflow.store.index import Index
    from nbflow.store.keys import RQ

    index = Index(store)
    rows, queues = index.workers(), index.queues()
    served = {name.removeprefix(store.keys.queue_prefix) for row in rows for name in row.queues}
    if rows:
        yield Check("workers", "ok", f"{len(rows)} on {', '.join(sorted(served))}")
    else:
        yield Check("workers", "warn", "no worker is alive: nothing will run", "Run `nbflow worker`, or `nbflow up`.")
    for queue in () if all_are_served and rows else queues:
        if queue.waiting and queue.name not in served:
            hint = f"Run `nbflow worker --queues {queue.name}`."
            yield Check("queues", "warn", f"{queue.waiting} wait on {queue.name!r}, which no worker serves", hint)
    if store.client.exists(f"{RQ}:suspended"):
        yield Check("queues", "warn", "RQ is suspended: nothing starts", "Run `rq resume`.")
