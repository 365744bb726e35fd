"""The process of a worker, from its start at the supervisor's gate to its end. `python -m` this, with three descriptors."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any

from nbflow.errors import NbflowError, SecretMissing
from nbflow.model.signing import Signer
from nbflow.settings import Settings, read_settings, settings
from nbflow.store.connect import Store
from nbflow.store.keys import Keys
from nbflow.store.scripts import Scripts
from nbflow.store.wire import ReplyError, refusal
from nbflow.worker.ahead import import_ahead
from nbflow.worker.apart import Origin
from nbflow.worker.lifeline import die_with_gate, die_with_parent, keep_private
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape
from nbflow.worker.values import open_vault
from nbflow.worker.worker import ALL_QUEUES, FlowWorker, rq_queue

__all__ = ["main"]


def _secret(chosen: Settings) -> bytes:
    if chosen.secret_bytes is None:
        raise SecretMissing(
            "This worker has no secret to verify code with.", hint="Set NBFLOW_SECRET to the one of the launcher."
        )
    return chosen.secret_bytes


def _pass_the_gate(gate: int, slots: Slots) -> dict[str, Any]:
    """Wait to be told a slot and a name, and import meanwhile what the other workers use: then a task whose worker died
    goes on at once. A supervisor that ends closes the gate."""
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([gate], [], [], 0.25)[0]:
            import_ahead(slots.packages)
            continue
        piece = os.read(gate, 4096)
        if not piece:
            os._exit(0)
        line += piece
    return json.loads(line)


def main() -> int:
    """`python -m nbflow.worker.process SLOTS_FD TAPE_FD GATE_FD VALUES_FD`, by a supervisor; the rest by NBFLOW_*."""
    die_with_parent(int(os.environ.get("NBFLOW_WORKER_OF", os.getppid())))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_private(*map(int, sys.argv[1:]))
    slots, tape, gate = Slots(int(sys.argv[1])), Tape(int(sys.argv[2])), int(sys.argv[3])
    try:
        return _work(slots, tape, gate)
    except NbflowError as error:
        print(error, file=sys.stderr)
        return 1


def _work(slots: Slots, tape: Tape, gate: int) -> int:
    scripts = Scripts(Keys(read_settings().namespace))
    scripts.prepare("claim", "settle", "append", "state", "own", "recall")
    told = _pass_the_gate(gate, slots)
    die_with_gate(gate)
    environment = dict(os.environ)
    os.environ.update(told["secrets"])
    chosen = settings()
    url, namespace = str(chosen.redis_url), chosen.namespace
    keys = Keys(namespace)
    served = os.environ.get("NBFLOW_QUEUES", "default").split(",")
    queues = [queue for queue in served if queue != ALL_QUEUES] or ["default"]
    secret = _secret(chosen)
    values = int(sys.argv[4])
    open_vault(values)
    origin = Origin(environment, told["secrets"], values)
    connection = Store(url, namespace).blocking()
    try:
        worker = FlowWorker(
            [rq_queue(keys.rq_queue_name(queue), connection) for queue in queues],
            name=told["name"], connection=connection, slots=slots, slot=told["slot"], tape=tape, url=url, keys=keys, scripts=scripts,
            signer=Signer(secret), artifacts=chosen.artifacts or "", all_queues=ALL_QUEUES in served, lease_s=chosen.lease_s,
            beat_s=chosen.heartbeat_s, origin=origin,
        )  # fmt: skip
    except ReplyError as error:
        raise refusal(url, error) from error
    worker.work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
