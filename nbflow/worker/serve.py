"""The program `nbflow worker`: its options, and a supervisor that runs until it is told to end. As light as that."""

from __future__ import annotations

import argparse
import math
import os
import sys

from nbflow.errors import CommandRefused, NbflowError
from nbflow.model.ids import is_queue_name
from nbflow.model.plain import block
from nbflow.store.format import refuse_other_format
from nbflow.store.wire import ReplyError, refusal, shown_url
from nbflow.worker.supervisor import Supervisor

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """`python -m nbflow.worker.serve --concurrency 2 --queues default`; the server and the secret by NBFLOW_*."""
    try:
        return _supervise(_options(argv))
    except NbflowError as error:
        print(block(error), file=sys.stderr)
        return 1


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nbflow worker")
    parser.add_argument("--url", default=os.environ.get("NBFLOW_REDIS_URL", "redis://127.0.0.1:6379/0"))
    parser.add_argument("--namespace", default=os.environ.get("NBFLOW_NAMESPACE", "nbflow"))
    workers = int(_number_in("NBFLOW_WORKERS", 0)) or os.cpu_count() or 1
    parser.add_argument("--concurrency", type=int, default=workers)
    parser.add_argument("--queues", default="default")
    parser.add_argument("--lease", type=float, default=_number_in("NBFLOW_LEASE_S", 10))
    parser.add_argument("--beat", type=float, default=_number_in("NBFLOW_HEARTBEAT_S", 1))
    parser.add_argument("--spares", type=int, default=1)
    options = parser.parse_args(argv)
    if options.concurrency < 1:
        raise CommandRefused(
            f"There cannot be {options.concurrency} workers.",
            hint="Ask for 1 or more with --concurrency or NBFLOW_WORKERS; without both there is one for each core.",
        )
    for queue in options.queues.split(","):
        if queue != "*" and not is_queue_name(queue):
            raise CommandRefused(
                f"A queue cannot be called {queue!r}.",
                hint="Use at most 100 letters, digits, '_', '-' and '.'; several queues are divided by commas.",
            )
    return options


def _number_in(variable: str, default: float) -> float:
    """What a variable says. This module reads it by itself: it does without pydantic."""
    text = os.environ.get(variable, "")
    try:
        number = float(text or default)
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        raise CommandRefused(f"{variable} cannot be {text!r}: it is no number.", hint="Correct or unset it.") from None


def _supervise(options: argparse.Namespace) -> int:
    os.environ |= {
        "NBFLOW_REDIS_URL": options.url,
        "NBFLOW_NAMESPACE": options.namespace,
        "NBFLOW_QUEUES": options.queues,
        "NBFLOW_LEASE_S": str(options.lease),
        "NBFLOW_HEARTBEAT_S": str(options.beat),
    }
    try:
        supervisor = Supervisor(
            options.url,
            namespace=options.namespace,
            concurrency=options.concurrency,
            lease_s=options.lease,
            beat_s=options.beat,
            spares=options.spares,
        )
        refuse_other_format(supervisor.wire.call, supervisor.keys)
    except ReplyError as error:
        raise refusal(options.url, error) from error
    print(
        f"nbflow: {options.concurrency} workers on {options.queues} at {shown_url(options.url)}",
        file=sys.stderr,
        flush=True,
    )
    supervisor.run()
    return 1 if supervisor.gave_up else 0


if __name__ == "__main__":
    sys.exit(main())
