"""The exception tree of nbflow.

    NbflowError
    ├── DefinitionError      the author of the flow must act
    │   ├── FlowShapeError       the graph of the steps is not allowed
    │   ├── StepNameTaken        two cells define one name
    │   ├── CaptureError         a step carries something that cannot travel
    │   └── PayloadError         a value cannot come back as it was
    ├── CommandRefused       the wish does not fit the state, which the message names
    │   ├── InputInvalid         the input does not fit the entry's parameters
    │   ├── UnknownFlow          no flow of that name
    │   ├── UnknownRun           no run of that id
    │   ├── UnknownSecret        no secret of that name where the step runs
    │   ├── UnknownSchedule      no schedule of that name
    │   ├── UnknownTrigger       no trigger of that name
    │   ├── KeyTaken             the key's run was started with another input
    │   ├── RunEnded             the run is over
    │   ├── AlreadyAnswered      the task waits for no answer (any more)
    │   ├── NotEnded             the run is not over yet
    │   └── StillRunning         it is not over within the time one would wait (a TimeoutError, too)
    ├── StepFailure          user code failed; carries the step and its line
    │   └── ChildFailed          the run that a step awaited did not complete
    ├── StoreError           the server; trying again may help
    │   ├── ServerUnreachable    nothing answers at the address
    │   ├── AccessDenied         wrong password, or a user without the rights
    │   ├── ServerTooOld         neither Redis >= 7.0 nor Valkey >= 7.2
    │   ├── FormatMismatch       the keys were written by another format of nbflow
    │   └── ArtifactMissing      a payload's bytes are not where they should be
    ├── TrustError           a signature, the secret or a version does not fit
    │   ├── SecretMissing        a server that is not local, and no NBFLOW_SECRET
    │   ├── BundleUnsigned       code without a signature
    │   ├── SignatureMismatch    signed with another secret, or changed since
    │   ├── DeliveryRefused      what a webhook was sent is not signed, not of now, or no JSON
    │   ├── PythonMismatch       pickled by another minor version of Python
    │   └── PackageMissing       the code needs a package that is not here
    └── InternalError        nbflow is wrong; please report it

Outside the tree: `Canceled`, a BaseException that interrupts a step, and `GiveUp`, which a step raises to fail for good.

Every error is one sentence that names the thing, with one hint that gives the next move. `code` never changes.
This module imports nothing of nbflow.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "AccessDenied",
    "AlreadyAnswered",
    "ArtifactMissing",
    "BundleUnsigned",
    "Canceled",
    "CaptureError",
    "ChildFailed",
    "CommandRefused",
    "DefinitionError",
    "DeliveryRefused",
    "FlowShapeError",
    "FormatMismatch",
    "GiveUp",
    "InputInvalid",
    "InternalError",
    "KeyTaken",
    "NbflowError",
    "NotEnded",
    "PackageMissing",
    "PayloadError",
    "PythonMismatch",
    "RunEnded",
    "SecretMissing",
    "ServerTooOld",
    "ServerUnreachable",
    "SignatureMismatch",
    "StepFailure",
    "StepNameTaken",
    "StillRunning",
    "StoreError",
    "TrustError",
    "UnknownFlow",
    "UnknownRun",
    "UnknownSchedule",
    "UnknownSecret",
    "UnknownTrigger",
    "nearest",
]


def nearest(name: object, known: Iterable[str]) -> str:
    """A ready clause that offers the nearest known names ("Did you mean 'merge'?"), or one that lists them. What somebody
    took for a name may be anything."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6) if isinstance(name, str) else []
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    shown = ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
    return f"Known: {shown}." if names else ""


class NbflowError(Exception):
    """The root of all errors of nbflow. `str(error)` is the message and the hint."""

    code: ClassVar[str] = "nbflow"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip() if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint), self.__dict__

    def _repr_html_(self) -> None:
        """Text is never HTML."""


def _rebuild(kind: type[NbflowError], message: str, hint: str) -> NbflowError:
    error = kind.__new__(kind)
    NbflowError.__init__(error, message, hint=hint)
    return error


class DefinitionError(NbflowError):
    """A flow or a step is declared in a way that cannot work; its author must act."""

    code = "definition"


class FlowShapeError(DefinitionError):
    """The graph has a cycle that is not allowed, or a subscription that can never be satisfied by any later cell."""

    code = "flow-shape"


class StepNameTaken(DefinitionError):
    """A step of this name was defined in another cell."""

    code = "step-name-taken"


class CaptureError(DefinitionError):
    """A step refers to a value that cannot travel to a worker (a lock, an open file, too much data)."""

    code = "capture"


class PayloadError(DefinitionError):
    """A value that a step sends cannot come back as it was."""

    code = "payload"


class CommandRefused(NbflowError):
    """The command does not fit the state that things are in."""

    code = "refused"


class InputInvalid(CommandRefused):
    """The input of a start does not fit the parameters of an entry. Nothing was written."""

    code = "input-invalid"


class UnknownFlow(CommandRefused):
    """No flow of that name is known."""

    code = "unknown-flow"


class UnknownRun(CommandRefused):
    """No run has that id, or several begin with it."""

    code = "unknown-run"


class UnknownSecret(CommandRefused):
    """There is no secret of that name where it was asked for, or it cannot be read or kept out of logs."""

    code = "unknown-secret"


class UnknownSchedule(CommandRefused):
    """The flow has no schedule of that name."""

    code = "unknown-schedule"


class UnknownTrigger(CommandRefused):
    """There is no trigger of that name, or it does not start that flow."""

    code = "unknown-trigger"


class KeyTaken(CommandRefused):
    """The key names a run that was started with another input."""

    code = "key-taken"


class RunEnded(CommandRefused):
    """The run is over, and the command needs a live one."""

    code = "run-ended"


class AlreadyAnswered(CommandRefused):
    """The task waits for no answer: somebody was faster, its time was over, or it never waited."""

    code = "already-answered"


class NotEnded(CommandRefused):
    """The run is not over, and the command needs its end."""

    code = "not-ended"


class StillRunning(CommandRefused, TimeoutError):
    """The run is not over within the time that one would wait for it. It goes on."""

    code = "still-running"


class StepFailure(NbflowError):
    """User code failed in a step.

    `step`, `task` and `run_id` say where, `error` is the last line of the traceback, `traceback` all of it (text).
    """

    code = "step-failure"

    def __init__(
        self, message: str, *, hint: str = "", run_id: str = "", task: str = "", error: str = "", traceback: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.run_id = run_id
        self.task = task
        self.step = task.partition("[")[0]
        self.error = error
        self.traceback = traceback


class ChildFailed(StepFailure):
    """The run that a step started and awaited failed, was canceled, or is gone. `run_id` is that run's."""

    code = "child-failed"


class StoreError(NbflowError):
    """The server did not do what was asked; trying again may help."""

    code = "store"


class ServerUnreachable(StoreError):
    """Nothing answers at the server's address."""

    code = "server-unreachable"


class AccessDenied(StoreError):
    """The server refuses the user or the password."""

    code = "access-denied"


class ServerTooOld(StoreError):
    """The server lacks what nbflow needs: Redis >= 7.0 or Valkey >= 7.2."""

    code = "server-too-old"


class FormatMismatch(StoreError):
    """The keys of the namespace have another format than this nbflow writes."""

    code = "format-mismatch"


class ArtifactMissing(StoreError):
    """The bytes of a payload are neither in Redis nor in the artifact store."""

    code = "artifact-missing"


class TrustError(NbflowError):
    """Something is not signed, not signed by us, or not made for this interpreter."""

    code = "trust"


class SecretMissing(TrustError):
    """The server is not local, and there is no secret to sign with."""

    code = "secret-missing"


class BundleUnsigned(TrustError):
    """The code carries no signature."""

    code = "bundle-unsigned"


class SignatureMismatch(TrustError):
    """The signature was made with another secret, or what was signed has changed since."""

    code = "signature-mismatch"


class DeliveryRefused(TrustError):
    """What a webhook was sent is not signed with its secret, not of now, or no JSON. Nothing was started."""

    code = "delivery-refused"


class PythonMismatch(TrustError):
    """The code was pickled by another minor version of Python."""

    code = "python-mismatch"


class PackageMissing(TrustError):
    """The code needs a package that is not installed here."""

    code = "package-missing"


class InternalError(NbflowError):
    """nbflow is wrong. Please report it with the message."""

    code = "internal"


class GiveUp(Exception):
    """A step raises it to say that it fails for good and that this is not a bug: the reason is `gave_up`."""


class Canceled(BaseException):
    """Raised inside a step whose run was canceled. `finally` blocks run; do not swallow it."""
