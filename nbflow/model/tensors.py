"""The door of numpy: arrays as bytes and scalars as tagged values. Imported only where one of them travels.

An array is written in numpy's own `.npy` form (type, shape and memory order in a header, then the memory as it is,
aligned to 64 bytes). Arrays of objects are not written here, and no reader of this module ever unpickles.
"""

# The types of users' values are unknown here by their nature.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from nbflow.model.artifacts import Blob
from nbflow.model.scalars import Node, number, text, whole

__all__ = ["pack", "read_scalar", "unpack", "write_scalar"]

_KINDS = "biufcmMSUV"
_VERSION = (2, 0)
_LONGEST_HEAD = 10_000  # numpy refuses to read a longer one
_TIME = re.compile(r"(datetime64|timedelta64)(\[\d*[A-Za-z]{1,2}\])?")
_SCALARS: dict[str, type[Any]] = {
    np.dtype(kind).name: kind
    for kind in (
        *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, np.float32, np.float64, np.complex64, np.complex128),
    )
}


def pack(value: np.ndarray[Any, Any]) -> tuple[Blob, dict[str, Any]] | None:
    """The bytes of an array and what its reference says; None if they could not say all of it."""
    if type(value) is not np.ndarray or not _is_exact(value.dtype):
        return None
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    flat = np.ascontiguousarray(value.T if fortran else value)
    descr = np.lib.format.dtype_to_descr(value.dtype)
    head = io.BytesIO()
    np.lib.format.write_array_header_2_0(head, {"descr": descr, "fortran_order": fortran, "shape": value.shape})
    if head.tell() > _LONGEST_HEAD:
        return None
    big = flat.nbytes > 1 << 20  # a view saves a copy of the memory, but does not exist for every small array
    body = flat.reshape(-1).view(np.uint8).data if big else flat.tobytes()
    schema = {"dtype": str(value.dtype), "shape": list(value.shape)}
    return b"".join((head.getvalue(), body)), {"type": "numpy.ndarray", "schema": schema}


def unpack(blob: Blob) -> np.ndarray[Any, Any]:
    """The array, always writable: over the blob itself if that is the caller's own, else over a copy."""
    memory = memoryview(blob)
    head = io.BytesIO(bytes(memory[: min(len(memory), 1 << 16)]))
    if np.lib.format.read_magic(head) != _VERSION:
        raise ValueError("another version of .npy")
    shape, fortran, dtype = np.lib.format.read_array_header_2_0(head)
    if not _is_exact(dtype):
        raise ValueError("an array of objects")
    body = memory[head.tell() :]
    flat = np.frombuffer(body if not body.readonly else bytearray(body), dtype=np.uint8)
    return np.ndarray(shape, dtype, buffer=flat, order="F" if fortran else "C")


def _is_exact(dtype: np.dtype[Any]) -> bool:
    if dtype.kind not in _KINDS or dtype.hasobject or dtype.metadata:
        return False
    if dtype.fields is None and dtype.subdtype is None and dtype.kind != "V":
        return True
    again = np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
    return again == dtype and again.isalignedstruct == dtype.isalignedstruct


def write_scalar(value: Any) -> Node | None:
    """The node of a numpy scalar, with its dtype; None for what is no scalar or has no exact spelling."""
    if not isinstance(value, np.generic):
        return None
    kind: Any = type(value)
    name = value.dtype.name
    node: Node = {"$t": "np", "dtype": name}
    if kind is np.str_:
        return {"$t": "np", "dtype": "str", "v": text(str(value))}
    if kind in (np.datetime64, np.timedelta64):
        return {**node, "v": whole(int(value.view(np.int64)))}
    if _SCALARS.get(name) is not kind:
        return None
    if value.dtype.kind == "c":
        return {**node, "v": [number(float(value.real)), number(float(value.imag))]}
    plain = value.item()
    return {**node, "v": number(plain) if isinstance(plain, float) else whole(plain)}


def read_scalar(node: Node, revive: Any) -> Any:
    name, value = node["dtype"], revive(node["v"])
    if name == "str":
        return np.str_(value)
    if _TIME.fullmatch(name):
        return np.array(int(value), np.int64).view(name)[()]
    if name.startswith("complex"):
        parts = np.array(value, np.float32 if name == "complex64" else np.float64)  # complex(…) may lose a sign of zero
        return parts.view(name)[0]
    return _SCALARS[name](value)
