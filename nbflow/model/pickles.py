"""The door of cloudpickle: any object as a signed pickle, and back. Imported only where a pickle is made or opened.

A blob is a line of what it is, a line of JSON (the Python that wrote it, the type, the signature), and the pickle.
Nothing is unpickled before the signature was verified. Classes of the type table are written as their labels, so that
they are the reader's classes and not copies.
"""

# The types of users' values are unknown here by their nature.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import io
import json
import pickle
import sys
from collections import ChainMap
from typing import Any, ClassVar

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]

from nbflow.errors import (
    BundleUnsigned,
    NbflowError,
    PackageMissing,
    PayloadError,
    PythonMismatch,
    SecretMissing,
    SignatureMismatch,
    nearest,
)
from nbflow.model.artifacts import Blob, Refused
from nbflow.model.signing import Signer
from nbflow.model.types import TypeTable

__all__ = ["pack", "unpack"]

_MAGIC = b"nbflow pickle 1\n"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_CHECKED_UP_TO = 1024 * 1024
"""Pickles up to this size are opened by the sender once: some objects pickle well and cannot be opened."""


def pack(value: Any, types: TypeTable, signer: Signer | None) -> bytes:
    """The signed blob of a value. Refused if it cannot be pickled, or could not be opened again."""
    if signer is None:
        raise SecretMissing(
            f"A {type_name(value)} travels as a pickle, which must be signed, and there is no secret.",
            hint="Set NBFLOW_SECRET, or return plain data.",
        )
    payload = _dump(value, types)
    if len(payload) <= _CHECKED_UP_TO:
        _check(payload, value, types)
    label = type_name(value)
    head = {"python": _PYTHON, "type": label, "signature": signer.sign("pickle", _PYTHON, label, payload)}
    return b"".join((_MAGIC, json.dumps(head).encode(), b"\n", payload))


def unpack(blob: Blob, types: TypeTable, signer: Signer | None) -> Any:
    """The value of a blob, after verifying it. A TrustError says why it is not opened."""
    label, payload = _verified(memoryview(blob), signer)
    try:
        return _load(payload, types)
    except NbflowError:
        raise
    except ModuleNotFoundError as error:
        raise PackageMissing(
            f"A pickled {label} needs the package {error.name!r}, which is not installed here.",
            hint=f"Install {str(error.name).partition('.')[0]} where this runs.",
        ) from error
    except (ImportError, AttributeError) as error:
        raise PackageMissing(
            f"A pickled {label} needs something that is not here: {error}.",
            hint="Install the same version of the package as where it was made.",
        ) from error
    except Exception as error:
        raise PayloadError(
            f"A pickled {label} cannot be opened: {type(error).__name__}: {error}.",
            hint="Return plain data, a dataclass or a frame instead.",
        ) from error


def type_name(value: Any) -> str:
    """How people know its type: `sklearn.linear_model.Ridge`, and builtins without their module."""
    kind: Any = type(value)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    return name.encode("utf-8", "replace").decode()


def _verified(blob: memoryview, signer: Signer | None) -> tuple[str, memoryview]:
    start = len(_MAGIC)
    end = bytes(blob[start : start + 4096]).find(b"\n") + start
    try:
        said = json.loads(bytes(blob[start:end])) if bytes(blob[:start]) == _MAGIC else {}
    except ValueError:
        said = {}
    head: dict[str, Any] = said if isinstance(said, dict) else {}
    python, label, signature = (str(head.get(key, "")) for key in ("python", "type", "signature"))
    payload = blob[end + 1 :]
    if not signature:
        raise BundleUnsigned("A pickle in a payload carries no signature.", hint="Run the step again with this nbflow.")
    if signer is None:
        raise SecretMissing(f"There is no secret to verify a pickled {label} with.", hint="Set NBFLOW_SECRET.")
    if not signer.verify(signature, "pickle", python, label, payload):
        raise SignatureMismatch(
            f"A pickled {label} was signed with another secret, or changed since.",
            hint="Give all workers and kernels the same NBFLOW_SECRET.",
        )
    if python != _PYTHON:
        raise PythonMismatch(
            f"A {label} was pickled by Python {python}, and this is {_PYTHON}.",
            hint=f"Use Python {python} here, or return plain data.",
        )
    return label, payload


def _refuse_file(file: Any) -> Any:
    raise TypeError("cannot pickle an open file")


_Base: Any = cloudpickle.Pickler


class _Pickler(_Base):
    # cloudpickle would read a text file and send a StringIO in its place
    dispatch_table: ClassVar[Any] = ChainMap({io.TextIOWrapper: _refuse_file}, _Base.dispatch_table)

    def __init__(self, file: io.BytesIO, types: TypeTable) -> None:
        super().__init__(file, protocol=5)
        self._types = types

    def persistent_id(self, obj: Any) -> str | None:
        return self._types.label(obj) if isinstance(obj, type) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, types: TypeTable) -> None:
        super().__init__(file)
        self._types = types

    def persistent_load(self, pid: Any) -> Any:
        found = self._types.get(str(pid))
        if found is None:
            known = nearest(str(pid), self._types.labels())
            raise PayloadError(
                f"The class `{pid}` is not part of the flow's code here. {known}", hint="Launch it anew."
            )
        return found


def _dump(value: Any, types: TypeTable) -> bytes:
    file = io.BytesIO()
    try:
        _Pickler(file, types).dump(value)
    except Exception as error:
        refused = Refused(
            f"is a {type_name(value)} and cannot travel ({type(error).__name__}: {error})",
            "Return what it holds as plain data, or make it anew in the step that needs it.",
        )
        refused.path.extend(reversed(_culprit(value, types)))
        raise refused from error
    return file.getvalue()


def _culprit(value: Any, types: TypeTable, depth: int = 3) -> list[str]:
    """The attributes that lead to what cannot be pickled, as far as they can be found."""
    attributes: dict[str, Any] = getattr(value, "__dict__", None) or {}
    if depth == 0 or isinstance(value, type):
        return []
    for name, item in list(attributes.items()):
        try:
            _Pickler(io.BytesIO(), types).dump(item)
        except Exception:  # noqa: BLE001 - any of them says that it is this one
            return [f".{name}", *_culprit(item, types, depth - 1)]
    return []


def _load(payload: Blob, types: TypeTable) -> Any:
    return _Unpickler(io.BytesIO(payload), types).load()


def _check(payload: bytes, value: Any, types: TypeTable) -> None:
    hint = "Return plain data, a dataclass or a frame instead."
    try:
        copy = _load(payload, types)
    except Exception as error:
        reason = f"is a {type_name(value)} whose pickle cannot be opened again ({type(error).__name__}: {error})"
        raise Refused(reason, hint) from error
    if type_name(copy) != type_name(value):
        raise Refused(f"is a {type_name(value)} and would come back as a {type_name(copy)}", hint)
