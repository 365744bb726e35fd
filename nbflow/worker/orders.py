"""What supervisor, worker and stem go by: signals, the grace of who is interrupted, the end of a process. Light: the
supervisor imports it."""

from __future__ import annotations

import signal
import struct

__all__ = ["GRACE_S", "INTERRUPT", "KILL", "STATUS"]

INTERRUPT, KILL = signal.SIGUSR1, signal.SIGUSR2
"""For whatever process there is now. A stem is started with both blocked, and hears them when it understands them."""

GRACE_S = 5.0
"""So long an interrupted task may go on before it is killed."""

STATUS = struct.Struct("<qq")
"""How a process ended, as `wait` says it, and its peak memory as `getrusage` does."""
