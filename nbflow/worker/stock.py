"""The way for a stock `rq worker`: it executes nbflow's jobs too, slower and without what only our supervisor gives
(give-back at once, live output of C libraries, interruption).

Each job's data is the one constant pickle of `execute` with no arguments; which task is meant stands in the job's own
fields. The worker needs NBFLOW_REDIS_URL and NBFLOW_SECRET in its environment.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import rq

from nbflow.errors import SecretMissing, UnknownRun
from nbflow.model.secret import look_from_here
from nbflow.model.signing import Signer
from nbflow.settings import settings
from nbflow.store.format import refuse_other_format
from nbflow.store.keys import Keys
from nbflow.store.scripts import Scripts
from nbflow.store.wire import Wire, connect
from nbflow.worker.execute import Executor
from nbflow.worker.interrupts import Unguarded
from nbflow.worker.owned import OwnedArtifacts, stored_artifacts
from nbflow.worker.port import Desk, WorkerReads
from nbflow.worker.shipping import Shipper, Shipping
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape
from nbflow.worker.task import Job, job_from_reply

__all__ = ["execute"]

LEASE = 1
"""A stock worker holds one job at a time; its lease is told apart by the job."""
GLANCE_S = 0.25


def execute() -> None:
    """Execute the task of the current RQ job and settle it. A failure of the task is the run's matter, not RQ's."""
    current = rq.get_current_job()
    chosen = settings()
    if current is None or chosen.redis_url is None:
        raise UnknownRun("No job of nbflow is here.", hint="Set NBFLOW_REDIS_URL to the server of this rq worker.")
    if chosen.secret_bytes is None:
        raise SecretMissing(
            "This worker has no secret to verify code with.", hint="Set NBFLOW_SECRET to the launcher's."
        )
    look_from_here()
    keys = Keys(chosen.namespace)
    scripts = Scripts(keys)
    wire = connect(chosen.redis_url, scripts=scripts)
    try:
        refuse_other_format(wire.call, keys)
        worker = current.worker_name or ""
        adopt = scripts["adopt"].command(worker=worker, job=current.id, lease=LEASE)
        while (reply := wire.ask(*adopt)) == b"WAIT":  # a limit is used up: it waits, with its task
            time.sleep(GLANCE_S)
        if reply:
            _execute(job_from_reply(reply), worker, _Place(wire, keys, scripts, chosen.secret_bytes, chosen.artifacts))
    finally:
        wire.close()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a task is executed, and with what."""

    wire: Wire
    keys: Keys
    scripts: Scripts
    secret: bytes
    artifacts: str | None


def _execute(job: Job, worker: str, place: _Place) -> None:
    wire, scripts, keys = place.wire, place.scripts, place.keys
    tape, slots, reads = Tape(), Slots(n=1), WorkerReads(wire, keys, scripts)
    try:
        artifacts = OwnedArtifacts(stored_artifacts(reads, keys, place.artifacts), reads)
        executor = Executor(reads, Signer(place.secret), artifacts)
        guard = Unguarded()
        desk = Desk(reads, scripts["state"], tape, executor, guard.shielded)
        shipper = Shipper(tape, scripts["append"], slots, 0)
        shipper.begin(Shipping(worker, job.id, LEASE, job.run, job.task, job.attempt))
        start = time.monotonic()
        ended = executor.execute(job, desk.port(job, worker, LEASE), guard)
        shipper.end(wire)
        wire.ask(
            *scripts["settle"].command(
                *ended.emits, keys=[keys.rq_queue(job.queue)], worker=worker, want="0", job=job.id, lease=LEASE,
                next=LEASE + 1, run=job.run, task=job.task, attempt=job.attempt, queue=job.queue,
                long="1" if time.monotonic() - start > 1 else "0", outcome=ended.outcome, data=ended.data,
            )
        )  # fmt: skip
    finally:
        slots.close()
        os.close(tape.fd)
