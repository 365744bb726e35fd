"""The release before this one: the code as it was before its scripts became those of today. Its workers and launchers take
part in chaos, on the same server (decision 0027)."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from nbflow.store.keys import FORMAT

__all__ = ["Earlier", "earlier_release"]

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = "nbflow/store/lua"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A commit, where its code lies now, and the format of its keys."""

    commit: str
    path: Path
    format: int

    @property
    def environment(self) -> dict[str, str]:
        """For processes that are to be of that release."""
        return {"PYTHONPATH": str(self.path)}

    @property
    def takes_part(self) -> bool:
        return self.format == FORMAT


def earlier_release(folder: Path) -> Earlier:
    """The newest commit with other scripts than those of the work tree, unpacked there."""
    last = _git("log", "-1", "--format=%H", "--", SCRIPTS).decode().strip()
    is_today = not _git("diff", "--name-only", last, "--", SCRIPTS)
    commit = _git("rev-parse", "--short", f"{last}^" if is_today else last).decode().strip()
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "nbflow"))) as packed:
        packed.extractall(folder, filter="data")
    found = re.search(r"^FORMAT = (\d+)$", (folder / "nbflow/store/keys.py").read_text("utf-8"), re.MULTILINE)
    assert found, "it says no format"
    return Earlier(commit, folder, int(found[1]))


def _git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True).stdout
