"""Where a process executes tasks: what it reads by, keeps by, captures by and is interrupted by, put together once."""

from __future__ import annotations

from nbflow.model.signing import Signer
from nbflow.store.keys import Keys
from nbflow.store.scripts import Scripts
from nbflow.store.wire import Wire
from nbflow.worker.ahead import tell_packages
from nbflow.worker.capture import Capture
from nbflow.worker.execute import Executor
from nbflow.worker.interrupts import Interrupts
from nbflow.worker.owned import OwnedArtifacts, stored_artifacts
from nbflow.worker.port import Desk, WorkerReads
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape
from nbflow.worker.task import Ending, Job

__all__ = ["Bench"]


class Bench:
    """Of one process, in its main thread."""

    def __init__(
        self,
        wire: Wire,
        keys: Keys,
        scripts: Scripts,
        *,
        signer: Signer,
        artifacts: str,
        tape: Tape,
        slots: Slots,
        slot: int,
    ) -> None:
        self._slots = slots
        self.capture, self.interrupts = Capture(tape), Interrupts(slots, slot)
        self.reads = WorkerReads(wire, keys, scripts)
        self.artifacts = stored_artifacts(self.reads, keys, artifacts)
        self._executor = Executor(self.reads, signer, OwnedArtifacts(self.artifacts, self.reads), self._opened)
        self._desk = Desk(self.reads, scripts["state"], tape, self._executor, self.interrupts.shielded)

    def execute(self, job: Job, worker: str, lease: int) -> Ending:
        """One attempt, from opening its code to what is to be written of it. Its output lies on the tape, to its last line."""
        self.interrupts.begin(lease)
        port = self._desk.port(job, worker, lease)
        ended = self._executor.execute(job, port, self.interrupts)
        port.is_over = True
        self.capture.finish_lines()
        return ended

    def _opened(self) -> None:
        """New code was opened: a spare may import ahead what it needed."""
        tell_packages(self._slots)
