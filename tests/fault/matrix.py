"""`make proof`: the crash matrix at every point, and its table. `python -m tests.fault.matrix [--write] [--roles …]`

Each point that was tried is kept in a journal, so that a walk goes on where it was left; several walks may share one, each
with roles or queues of its own. A journal of other code is begun anew. With `--write` the table goes into
`docs/reliability.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.fault.crashes import QUEUES, ROLES, CrashSite, open_crash_site
from tests.fault.points import Point, When

__all__ = ["Journal", "Row", "table", "walk"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
ENOUGH = 80
"""A supervisor says the same at each beat as long as a run lasts, and on a busy machine that is long: so many writes are
several rounds of all it says. Nobody else says so much."""
BEGIN, END = "<!-- crash matrix -->", "<!-- end of the crash matrix -->"


@dataclass(slots=True)
class Row:
    """What was tried of one role."""

    role: str
    queues: str
    writes: int = 0
    deaths: int = 0
    broken: int = 0

    def add(self, n: int, fired: bool, broken: str) -> None:
        self.deaths += fired
        self.broken += bool(broken)
        self.writes = max(self.writes, n if fired else 0)


@dataclass(slots=True)
class Journal:
    """What was tried of this code: a line a point, of the row, the write, when, whether somebody died, what was broken."""

    path: Path
    code: str
    tried: dict[tuple[str, str, int, str], tuple[bool, str]] = field(
        default_factory=dict[tuple[str, str, int, str], tuple[bool, str]]
    )

    def read(self) -> Journal:
        lines = self.path.read_text("utf-8").splitlines() if self.path.exists() else []
        if lines[:1] != [self.code]:
            self.path.write_text(self.code + "\n", "utf-8")
            lines = []
        for line in lines[1:]:
            *point, fired, broken = json.loads(line)
            self.tried[tuple(point)] = (fired, broken)
        return self

    def keep(self, row: Row, point: Point, fired: bool, broken: str) -> None:
        self.tried[row.role, row.queues, point.n, point.when] = (fired, broken)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([row.role, row.queues, point.n, point.when, fired, broken]) + "\n")

    def row(self, role: str, queues: str) -> Row:
        row = Row(role, queues)
        for (whose, names, n, _), (fired, broken) in self.tried.items():
            if (whose, names) == (role, queues):
                row.add(n, fired, broken)
        return row


def code() -> str:
    """A digest of all that is proven here."""
    files = sorted([*ROOT.glob("nbflow/**/*.py"), *ROOT.glob("nbflow/**/*.lua")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def walk(site: CrashSite, row: Row, journal: Journal) -> None:
    """Every write of that role, before and after it, until there is none left in the life of a run, or enough of them."""
    n, goes_on = 1, True
    while goes_on and n <= ENOUGH:
        goes_on = False
        for when in ("before", "after"):
            fired, _ = journal.tried.get((row.role, row.queues, n, when)) or _try(site, row, n, when, journal)
            goes_on = goes_on or fired
        n += 1


def _try(site: CrashSite, row: Row, n: int, when: When, journal: Journal) -> tuple[bool, str]:
    point, fired, broken = Point(row.role, n, when), True, ""
    try:
        fired = site.try_point(point)
    except AssertionError as law:
        broken = str(law)
        print(f"BROKEN with {row.queues}: {broken}", flush=True)
    journal.keep(row, point, fired, broken)
    return fired, broken


def table(rows: list[Row]) -> str:
    """For people."""
    lines = ["| who dies | queues | writes | deaths | laws broken |", "|---|---|---|---|---|"]
    lines += [f"| {row.role} | {row.queues} | {row.writes} | {row.deaths} | {row.broken} |" for row in rows]
    total, broken = sum(row.deaths for row in rows), sum(row.broken for row in rows)
    lines.append(f"| **all** | | {sum(row.writes for row in rows)} | {total} | {broken} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.matrix")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES)
    parser.add_argument("--queues", nargs="+", choices=QUEUES, default=list(QUEUES))
    parser.add_argument("--journal", type=Path, default=ROOT / ".crash-matrix.jsonl")
    return parser.parse_args()


def _write(rows: list[Row]) -> None:
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)  # noqa: PLW1510
    as_of = f"As of {datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}."
    said = f"{BEGIN}\n{table(rows)}\n\n{as_of}\n{END}"
    PAGE.write_text(head + said + tail, "utf-8")


def main() -> int:
    options = _options()
    journal = Journal(options.journal, code()).read()
    for queues in options.queues:
        with tempfile.TemporaryDirectory() as folder, open_crash_site(Path(folder), QUEUES[queues]) as site:
            for role in options.roles:
                began = time.monotonic()
                walk(site, Row(role, queues), journal)
                seconds = time.monotonic() - began
                print(f"{role}, {queues}: {journal.row(role, queues).deaths} deaths, {seconds:.0f} s", flush=True)
    rows = [row for role in ROLES for queues in QUEUES if (row := journal.read().row(role, queues)).deaths]
    print(table(rows))
    if options.write:
        _write(rows)
    return 1 if any(row.broken for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
