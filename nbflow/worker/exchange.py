"""How a worker and the process of an isolated attempt hand each other what is to be done and how it ended: a file of memory
that both have. It takes what is of any size without a reader at the other end, and outlives who wrote it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields

from nbflow.worker.slots import anonymous_file
from nbflow.worker.task import Ending, Job

__all__ = ["Exchange"]

_END = b"\n"
"""Behind what is whole. JSON has none inside."""


class Exchange:
    """One thing lies in it at a time: a job with who executes it, or an ending. With `fd`, that of another process."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = anonymous_file("nbflow-exchange") if fd is None else fd

    def put_job(self, job: Job, worker: str, lease: int) -> None:
        told = {field.name: getattr(job, field.name) for field in fields(job) if field.init}
        texts = [None if part is None else part.decode("utf-8", "surrogateescape") for part in job.payloads]
        self._put("job", {**told, "payloads": texts}, worker, lease)

    def take_job(self) -> tuple[Job, str, int]:
        """And nothing is left: who ends without a word has said nothing."""
        _, told, worker, lease = json.loads(self._take())
        texts = told.pop("payloads")
        payloads = tuple(None if text is None else text.encode("utf-8", "surrogateescape") for text in texts)
        return Job(**told, payloads=payloads), worker, lease

    def put_ending(self, ended: Ending) -> None:
        self._put("ending", asdict(ended))

    def take_ending(self) -> Ending | None:
        """None if there is none, or not the whole of one; the job may lie there still."""
        text = self._take()
        kind, *parts = json.loads(text) if text.endswith(_END) else ("",)
        return Ending(**parts[0]) if kind == "ending" else None

    def _put(self, *value: object) -> None:
        rest = memoryview(json.dumps(value).encode() + _END)
        os.ftruncate(self.fd, 0)
        at = 0
        while at < len(rest):
            at += os.pwrite(self.fd, rest[at:], at)

    def _take(self) -> bytes:
        pieces: list[bytes] = []
        at, size = 0, os.fstat(self.fd).st_size
        while at < size and (piece := os.pread(self.fd, size - at, at)):
            pieces.append(piece)
            at += len(piece)
        os.ftruncate(self.fd, 0)
        return b"".join(pieces)
