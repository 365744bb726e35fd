"""Lies in front of a process's path: it counts the writes of that process to its sockets, and kills it with SIGKILL before
or after the one that is meant. What is meant stands in a file that the proof and all its processes share (`points.py`)."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
from typing import Any

RECORD = struct.Struct("<16sqqqq")
"""Whose write, how many are left until the one that is meant (0: none is), 1 before it or 2 after it, the pid that was
killed, how many writes there were."""


class Point:
    """The shared file, seen from one process of some role."""

    def __init__(self, path: str, role: str) -> None:
        self.role = role.encode()
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.memory = mmap.mmap(self.file, RECORD.size)

    def reached(self) -> int:
        """Counts one write; 1 or 2 if it is the one, else 0. Only one process is ever told."""
        role, left, when, killed, writes = RECORD.unpack_from(self.memory)
        meant = role.rstrip(b"\0")
        if meant != (b"machine" if meant == b"machine" and self.role == b"worker" else self.role):
            return 0
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        try:
            role, left, when, killed, writes = RECORD.unpack_from(self.memory)
            is_it = left == 1
            RECORD.pack_into(self.memory, 0, role, max(0, left - 1), when, os.getpid() if is_it else killed, writes + 1)
            return when if is_it else 0
        finally:
            fcntl.lockf(self.file, fcntl.LOCK_UN)


def _role() -> str:
    words = " ".join(sys.orig_argv)
    if "nbflow.worker.process" in words:
        return "worker"
    if "nbflow.worker.stem" in words:
        return "isolated"
    return "supervisor" if "nbflow.worker.serve" in words else os.environ.get("CRASH_ROLE", "")


def _die(point: Point) -> None:
    if RECORD.unpack_from(point.memory)[0].rstrip(b"\0") == b"machine":
        os.kill(os.getppid(), signal.SIGKILL)  # its supervisor, and with that all of its workers
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def _count(point: Point) -> None:
    sends = socket.socket.sendall

    def sendall(self: Any, *args: Any) -> None:
        meant = point.reached()
        if meant == 1:
            _die(point)
        sends(self, *args)
        if meant == 2:
            _die(point)

    socket.socket.sendall = sendall


if "CRASH_POINT" in os.environ:
    POINT = Point(os.environ["CRASH_POINT"], _role())
    _count(POINT)
