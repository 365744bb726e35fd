"""A bundle's envelope: what is in it, signed. It is read, and refused, without opening the pickle inside.

    nbflow-bundle 1\\n | four lengths (uint32) | header (JSON) | signature (hex) | payload (pickle) | texts (zlib JSON)

The signature is over everything but itself. The header is for people and for refusals: nothing in it is trusted before
the signature was verified.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields

from nbflow.define.sources import ModuleSource, Sources, distribution_of, package_version
from nbflow.errors import BundleUnsigned, CaptureError, PackageMissing, PythonMismatch, SignatureMismatch, TrustError
from nbflow.model import veil
from nbflow.model.signing import Signer

__all__ = ["PYTHON", "Envelope", "Header", "Texts", "digest_of", "header_of", "seal", "unseal"]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_NAME = b"nbflow-bundle "
_MAGIC = _NAME + b"1\n"
_LENGTHS = struct.Struct(">IIII")


@dataclass(frozen=True, slots=True)
class Header:
    """What a bundle says about itself. `packages` are needed (import name: version), `lazy_packages` perhaps; what to
    install for a package is in `distributions` where it has another name."""

    flow: str
    steps: list[str]
    python: str = PYTHON
    nbflow: str = ""
    modules: list[str] = field(default_factory=list[str])
    packages: dict[str, str] = field(default_factory=dict[str, str])
    lazy_packages: dict[str, str] = field(default_factory=dict[str, str])
    distributions: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Texts:
    """The project's modules, and the cells that functions came from (file name: text)."""

    modules: Mapping[str, ModuleSource]
    lines: Mapping[str, str]

    def pack(self) -> bytes:
        data = {
            "modules": [asdict(source) for source in self.modules.values()],
            "lines": dict(sorted(self.lines.items())),
        }
        return zlib.compress(json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode())

    @classmethod
    def unpack(cls, packed: bytes) -> Texts:
        data = json.loads(zlib.decompress(packed))
        modules = [ModuleSource(**source) for source in data["modules"]]
        return cls({source.name: source for source in modules}, data["lines"])


@dataclass(frozen=True, slots=True)
class Envelope:
    """A bundle that was verified."""

    header: Header
    payload: memoryview
    texts: Texts


def digest_of(blob: bytes | memoryview) -> str:
    """The name of a bundle: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(blob).hexdigest()[:32]


def header_of(flow: str, steps: list[str], sources: Sources) -> Header:
    """The header of a bundle that takes these sources along."""
    packages = sorted(sources.packages)
    names = {package: distribution_of(package) for package in packages}
    return Header(
        flow,
        steps,
        nbflow=package_version("nbflow"),
        modules=list(sources.modules),
        packages={package: package_version(package) for package in packages},
        lazy_packages={package: package_version(package) for package in sorted(sources.lazy_packages)},
        distributions={package: name for package, name in names.items() if name != package},
    )


def seal(header: Header, payload: bytes, texts: Texts, signer: Signer) -> bytes:
    """The blob of a bundle. CaptureError if the code carries the value of a secret that was read here."""
    _refuse_secrets(header, payload, texts)
    head, packed = json.dumps(asdict(header), separators=(",", ":")).encode(), texts.pack()
    signature = signer.sign("bundle", _MAGIC, head, payload, packed).encode()
    lengths = _LENGTHS.pack(len(head), len(signature), len(payload), len(packed))
    return b"".join((_MAGIC, lengths, head, signature, payload, packed))


def _refuse_secrets(header: Header, payload: bytes, texts: Texts) -> None:
    written = [source.text for source in texts.modules.values()] + [*texts.lines.values()] if veil.known else []
    found = veil.found_in(payload) or next(filter(None, (veil.found_in(text.encode()) for text in written)), None)
    if found is not None:
        raise CaptureError(
            f"The code of flow {header.flow!r} carries the value of the secret {found!r}.",
            hint=f"Refer to Secret({found!r}) itself, and call .get() inside the step.",
        )


def unseal(blob: bytes | memoryview, digest: str, signer: Signer, *, is_installed: Callable[[str], bool]) -> Envelope:
    """The verified contents. A TrustError says why a bundle is not opened."""
    if digest_of(blob) != digest:
        raise SignatureMismatch(
            f"The bundle {digest[:8]}… is not the one that was launched: its bytes have changed.",
            hint="Launch the flow again.",
        )
    head, signature, payload, packed = _parts(memoryview(blob), digest)
    if not signature:
        raise BundleUnsigned(
            f"The bundle {digest[:8]}… carries no signature.", hint="Launch the flow again with nbflow."
        )
    if not signer.verify(bytes(signature).decode("ascii", "replace"), "bundle", _MAGIC, head, payload, packed):
        raise SignatureMismatch(
            f"The bundle {digest[:8]}… was signed with another secret, or changed since.",
            hint="Give all workers and kernels the same NBFLOW_SECRET.",
        )
    known = {item.name for item in fields(Header)}  # a later nbflow may say more
    header = Header(**{name: value for name, value in json.loads(bytes(head)).items() if name in known})
    _check_python(header)
    _check_packages(header, is_installed)
    return Envelope(header, payload, Texts.unpack(bytes(packed)))


def _parts(blob: memoryview, digest: str) -> tuple[memoryview, ...]:
    start = len(_MAGIC)
    magic = bytes(blob[:start])
    if magic.startswith(_NAME) and magic != _MAGIC:
        raise TrustError(
            f"The bundle {digest[:8]}… has a format that this nbflow does not know.",
            hint="Use the same version of nbflow for workers and kernels.",
        )
    end = start + _LENGTHS.size
    lengths = _LENGTHS.unpack(blob[start:end]) if magic == _MAGIC and len(blob) >= end else ()
    if not lengths or end + sum(lengths) != len(blob):
        raise SignatureMismatch(f"{digest[:8]}… is no bundle, or only a part of one.", hint="Launch the flow again.")
    parts: list[memoryview] = []
    for length in lengths:
        parts.append(blob[end : end + length])
        end += length
    return tuple(parts)


def _check_python(header: Header) -> None:
    if header.python != PYTHON:
        raise PythonMismatch(
            f"The code of flow {header.flow!r} was pickled by Python {header.python}, and this is {PYTHON}.",
            hint=f"Run this worker with Python {header.python}, or launch the flow with {PYTHON}.",
        )


def _check_packages(header: Header, is_installed: Callable[[str], bool]) -> None:
    missing = sorted(package for package in header.packages if not is_installed(package))
    if missing:
        named = ", ".join(map(repr, missing))
        wanted = " ".join(_requirement(header, package) for package in missing)
        raise PackageMissing(
            f"The code of flow {header.flow!r} needs {'packages that are' if len(missing) > 1 else 'a package that is'} "
            f"not installed here: {named}.",
            hint=f"Install {wanted} where this worker runs.",
        )


def _requirement(header: Header, package: str) -> str:
    name, version = header.distributions.get(package, package), header.packages[package]
    return f"{name}=={version}" if version else name
