"""`make proof`: the crash matrix at every point, and its table. `python -m tests.fault.matrix [--write] [--roles …]`

With `--write` the table goes into `docs/reliability.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.fault.crashes import QUEUES, ROLES, CrashSite, open_crash_site
from tests.fault.points import Point

__all__ = ["Row", "table", "walk"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- crash matrix -->", "<!-- end of the crash matrix -->"


@dataclass(slots=True)
class Row:
    """What was tried of one role."""

    role: str
    queues: str
    writes: int = 0
    deaths: int = 0
    broken: int = 0
    seconds: float = 0.0


def walk(site: CrashSite, row: Row) -> None:
    """Every write of that role, before and after it, until there is none left in the life of a run."""
    began = time.monotonic()
    n, goes_on = 1, True
    while goes_on:
        goes_on = False
        for when in ("before", "after"):
            try:
                fired = site.try_point(Point(row.role, n, when))
            except AssertionError as broken:
                print(f"BROKEN with {row.queues}: {broken}", flush=True)
                row.broken, fired = row.broken + 1, True
            row.deaths += fired
            goes_on = goes_on or fired
        row.writes = n if goes_on else row.writes
        n += 1
    row.seconds = time.monotonic() - began


def table(rows: list[Row]) -> str:
    """For people."""
    lines = ["| who dies | queues | writes | deaths | laws broken |", "|---|---|---|---|---|"]
    lines += [f"| {row.role} | {row.queues} | {row.writes} | {row.deaths} | {row.broken} |" for row in rows]
    total, broken = sum(row.deaths for row in rows), sum(row.broken for row in rows)
    lines.append(f"| **all** | | {sum(row.writes for row in rows)} | {total} | {broken} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.matrix")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES)
    options = parser.parse_args()
    rows: list[Row] = []
    for queues, names in QUEUES.items():
        with tempfile.TemporaryDirectory() as folder, open_crash_site(Path(folder), names) as site:
            for role in options.roles:
                rows.append(Row(role, queues))
                walk(site, rows[-1])
                print(f"{role}, {queues}: {rows[-1].deaths} deaths in {rows[-1].seconds:.0f} s", flush=True)
    rows.sort(key=lambda row: ROLES.index(row.role))
    print(table(rows))
    if options.write:
        head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        _, _, tail = rest.partition(END)
        said = f"{BEGIN}\n{table(rows)}\n\nAs of {datetime.now(UTC):%Y-%m-%d}.\n{END}"
        PAGE.write_text(head + said + tail, "utf-8")
    return 1 if any(row.broken for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
