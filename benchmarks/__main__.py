"""`make bench`: the measurements behind the claims, one after the other. Quote medians, from a quiet machine."""

from __future__ import annotations

import sys

from benchmarks import hop, launch, layout, read_events, recover, startup, trial

if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    for measure in (startup, launch, hop, recover, read_events, layout, trial):
        print(f"-- {measure.__name__.partition('.')[2]}")
        measure.main()
