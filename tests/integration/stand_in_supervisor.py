"""Stands in for the supervisor of the workers: connects as it does, waits, and ends at SIGTERM as fast as it is told.

STAND_IN_DRAIN_S says how long it takes to finish what it holds; STAND_IN_ENDS makes it end at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from nbflow.store.wire import connect


def main() -> int:
    if "STAND_IN_ENDS" in os.environ:
        return 3
    wire = connect(sys.argv[sys.argv.index("--url") + 1])
    wire.call("CLIENT", "SETNAME", f"{os.environ['NBFLOW_CLIENT_NAME']}-supervisor")
    drained: list[int] = []
    signal.signal(signal.SIGTERM, lambda got, _: drained.append(got))
    print("ready", *sys.argv[1:], flush=True)
    while not drained:
        time.sleep(0.01)
    time.sleep(float(os.environ.get("STAND_IN_DRAIN_S", "0")))
    wire.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
