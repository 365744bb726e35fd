"""Memory shared by a supervisor and its workers: one slot each, no locks, one writer per field.

The worker writes `lease` (0 when idle), `since` (monotonic ns; 0 until it has registered), `jobs`, `seconds`, `deadline` of a timed task, `shipped` (bytes of its tape that are
in Redis), `apart` (1 while its task has a process of its own, which writes `deadline` then). The supervisor writes `target`: the lease it means to interrupt.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile

__all__ = ["Slots", "anonymous_file"]

_SIZE = 64
_WARM = 8192
_ONE, _TWO, _SUMS = struct.Struct("<q"), struct.Struct("<qq"), struct.Struct("<qd")
_LEASE, _TARGET, _JOBS, _SHIPPED, _DEADLINE, _APART = 0, 16, 24, 40, 48, 56


def anonymous_file(name: str) -> int:
    """The descriptor of a file that has no place in a folder and ends with its last holder. No other program inherits it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix=name) as file:
        return os.dup(file.fileno())


class Slots:
    """The slots of at most `n` workers; with `fd`, those that another process made."""

    def __init__(self, fd: int | None = None, n: int = 256) -> None:
        if fd is None:
            fd = anonymous_file("nbflow-slots")
            os.ftruncate(fd, n * _SIZE + _WARM)
        self.fd = fd
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)

    @property
    def packages(self) -> list[str]:
        """Names of packages that are worth importing ahead."""
        return self._memory[-_WARM:].rstrip(b"\0").decode().split()

    @packages.setter
    def packages(self, names: list[str]) -> None:
        text = (
            " ".join(names).encode()[:_WARM].rpartition(b" ")[0]
            if len(" ".join(names)) > _WARM
            else " ".join(names).encode()
        )
        self._memory[-_WARM:] = text.ljust(_WARM, b"\0")

    def begin(self, slot: int, lease: int, since_ns: int) -> None:
        _TWO.pack_into(self._memory, slot * _SIZE, lease, since_ns)

    def end(self, slot: int, seconds: float) -> None:
        at = slot * _SIZE
        _ONE.pack_into(self._memory, at, 0)
        jobs, total = _SUMS.unpack_from(self._memory, at + _JOBS)
        _SUMS.pack_into(self._memory, at + _JOBS, jobs + 1, total + seconds)

    def running(self, slot: int) -> tuple[int, int]:
        """(lease or 0, since when in monotonic ns)."""
        return _TWO.unpack_from(self._memory, slot * _SIZE + _LEASE)

    def sums(self, slot: int) -> tuple[int, float]:
        """(jobs ended, seconds worked)."""
        return _SUMS.unpack_from(self._memory, slot * _SIZE + _JOBS)

    def aim(self, slot: int, lease: int) -> None:
        _ONE.pack_into(self._memory, slot * _SIZE + _TARGET, lease)

    def target(self, slot: int) -> int:
        return _ONE.unpack_from(self._memory, slot * _SIZE + _TARGET)[0]

    def ship(self, slot: int, offset: int) -> None:
        _ONE.pack_into(self._memory, slot * _SIZE + _SHIPPED, offset)

    def shipped(self, slot: int) -> int:
        return _ONE.unpack_from(self._memory, slot * _SIZE + _SHIPPED)[0]

    def expire(self, slot: int, deadline_ns: int) -> None:
        """When the task should have ended by itself (monotonic ns); 0 when nothing is timed."""
        _ONE.pack_into(self._memory, slot * _SIZE + _DEADLINE, deadline_ns)

    def deadline(self, slot: int) -> int:
        return _ONE.unpack_from(self._memory, slot * _SIZE + _DEADLINE)[0]

    def set_apart(self, slot: int, *, is_apart: bool) -> None:
        _ONE.pack_into(self._memory, slot * _SIZE + _APART, int(is_apart))

    def is_apart(self, slot: int) -> bool:
        """Whether its task has a process of its own: then the worker kills that, and is left time to."""
        return bool(_ONE.unpack_from(self._memory, slot * _SIZE + _APART)[0])

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)

    def clear(self, slot: int) -> None:
        self._memory[slot * _SIZE : (slot + 1) * _SIZE] = bytes(_SIZE)
