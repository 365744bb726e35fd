"""Crash points: at which write to a socket, of a process in which role, kill -9 strikes (see `inject/sitecustomize.py`)."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["INJECT", "Point", "Points", "When"]

INJECT = Path(__file__).parent / "inject"
When = Literal["before", "after"]
_RECORD = struct.Struct("<16sqqqq")  # as `inject/sitecustomize.py` has it


@dataclass(frozen=True, slots=True)
class Point:
    """The n-th write of the role's processes, counted from when it was armed."""

    role: str
    n: int
    when: When

    def __str__(self) -> str:
        return f"{self.when} write {self.n} of the {self.role}"


class Points:
    """The file that says which point is armed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(_RECORD.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _RECORD.size)

    def environment(self, role: str = "") -> dict[str, str]:
        """For processes whose writes are to be counted. Workers and supervisors know their role."""
        path = os.pathsep.join(filter(None, (str(INJECT), os.environ.get("PYTHONPATH", ""))))
        return {"PYTHONPATH": path, "CRASH_POINT": str(self.path), "CRASH_ROLE": role}

    def arm(self, point: Point) -> None:
        _RECORD.pack_into(self._memory, 0, point.role.encode(), point.n, 1 if point.when == "before" else 2, 0, 0)

    def disarm(self) -> tuple[bool, int]:
        """Whether somebody was killed, and how many writes there were."""
        *_, killed, writes = _RECORD.unpack_from(self._memory)
        _RECORD.pack_into(self._memory, 0, b"", 0, 0, 0, 0)
        return bool(killed), writes

    @property
    def has_fired(self) -> bool:
        return bool(_RECORD.unpack_from(self._memory)[3])
