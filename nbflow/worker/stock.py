"""The way for a stock `rq worker`: it executes nbflow's jobs too, slower and without what only our supervisor gives
(give-back at once, live output of C libraries, interruption).

Each job's data is the one constant pickle of `execute` with no arguments; which task is meant stands in the job's own
fields. The worker needs NBFLOW_REDIS_URL and NBFLOW_SECRET in its environment.
"""

from __future__ import annotations

import time

import rq

from nbflow.errors import SecretMissing, UnknownRun
from nbflow.model.signing import Signer
from nbflow.settings import settings
from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.keys import Keys
from nbflow.store.scripts import load_scripts, upload
from nbflow.store.wire import connect
from nbflow.worker.execute import Executor
from nbflow.worker.interrupts import Unguarded
from nbflow.worker.owned import OwnedArtifacts
from nbflow.worker.port import WorkerPort, WorkerReads
from nbflow.worker.shipping import Shipper, Shipping
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape
from nbflow.worker.task import job_from_reply

__all__ = ["execute"]

LEASE = 1
"""A stock worker holds one job at a time; its lease is told apart by the job."""


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
    keys = Keys(chosen.namespace)
    scripts = load_scripts(keys)
    wire = connect(chosen.redis_url)
    upload(wire.call, scripts)
    wire.on_open = lambda opened: upload(opened.call, scripts)
    worker = current.worker_name or ""
    reply = wire.call(*scripts["adopt"].command(worker=worker, job=current.id, lease=LEASE))
    if not reply:
        return
    job = job_from_reply(reply)
    tape, reads = Tape(), WorkerReads(wire, keys)
    artifacts = OwnedArtifacts(StoredArtifacts(reads, keys.artifact, chosen.artifacts), reads)
    executor = Executor(reads, Signer(chosen.secret_bytes), artifacts)
    guard = Unguarded()
    port = WorkerPort(reads, scripts["state"], tape, executor, shield=guard.shielded)
    shipper = Shipper(tape, scripts["append"], Slots(n=1), 0)
    shipper.begin(Shipping(worker, job.id, LEASE, job.run, job.task, job.attempt))
    port.begin(job, worker, LEASE)
    start = time.monotonic()
    ended = executor.execute(job, port, guard)
    shipper.end(wire)
    port.own_artifacts(job.run)
    wire.ask(
        *scripts["settle"].command(
            *ended.emits, keys=[keys.rq_queue(job.queue)], worker=worker, want="0", job=job.id, lease=LEASE, next=LEASE + 1,
            run=job.run, task=job.task, attempt=job.attempt, queue=job.queue,
            long="1" if time.monotonic() - start > 1 else "0", outcome=ended.outcome, data=ended.data,
        )
    )  # fmt: skip
