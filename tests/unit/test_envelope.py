"""A bundle's envelope: what is not ours, not whole or not for this interpreter is refused before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nbflow.define import envelope
from nbflow.define.bundle import Bundle, make_bundle, open_bundle
from nbflow.define.envelope import Header, Texts, digest_of, seal
from nbflow.errors import BundleUnsigned, PackageMissing, PythonMismatch, SignatureMismatch, TrustError
from nbflow.model.definition import StepSpec
from nbflow.model.signing import Signer
from tests.cells import Kernel

SIGNER = Signer(b"secret")


def bundle_of(tmp_path: Path, **steps: Callable[..., Any]) -> Bundle:
    code = {name: (StepSpec(name), function, None) for name, function in steps.items()}
    return make_bundle("orders", code, signer=SIGNER, project=tmp_path)


def sealed(header: Header) -> bytes:
    return seal(header, b"never opened", Texts({}, {}), SIGNER)


def test_changed_bytes_are_refused(tmp_path: Path) -> None:
    made = bundle_of(tmp_path, step=lambda: 1)
    for place in range(0, len(made.blob), 97):
        changed = bytearray(made.blob)
        changed[place] ^= 1
        with pytest.raises(TrustError):
            open_bundle(bytes(changed), made.digest, SIGNER)
        with pytest.raises(TrustError):  # and by the signature alone, when the digest is a liar's
            open_bundle(bytes(changed), digest_of(bytes(changed)), SIGNER)


def test_another_secret_is_refused(tmp_path: Path) -> None:
    made = bundle_of(tmp_path, step=lambda: 1)
    with pytest.raises(SignatureMismatch, match="another secret"):
        open_bundle(made.blob, made.digest, Signer(b"other"))


def test_no_signature_is_refused(tmp_path: Path) -> None:
    @dataclass
    class Silent:
        def sign(self, *parts: object) -> str:
            return ""

    made = make_bundle("f", {}, signer=Silent(), project=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(BundleUnsigned):
        open_bundle(made.blob, made.digest, SIGNER)


@pytest.mark.parametrize("part", [b"", b"hello", b"nbflow-bundle 1\n", b"nbflow-bundle 1\n" + b"\xff" * 16])
def test_what_is_no_bundle_is_refused(part: bytes) -> None:
    with pytest.raises(SignatureMismatch):
        open_bundle(part, digest_of(part), SIGNER)


def test_a_later_format_is_refused_with_a_hint() -> None:
    blob = b"nbflow-bundle 9\n" + bytes(40)
    with pytest.raises(TrustError, match="same version of nbflow"):
        open_bundle(blob, digest_of(blob), SIGNER)


def test_another_python_is_refused_before_anything_is_unpickled() -> None:
    blob = sealed(Header("orders", ["a"], python="3.9"))
    with pytest.raises(PythonMismatch, match=r"3\.9"):
        open_bundle(blob, digest_of(blob), SIGNER)


def test_missing_packages_are_named_with_what_to_install() -> None:
    header = Header(
        "orders", ["a"], packages={"json": "", "yaml_x": "6.0", "gone": ""}, distributions={"yaml_x": "PyYAML-X"}
    )
    blob = sealed(header)
    with pytest.raises(PackageMissing, match=r"'gone', 'yaml_x'.*Install gone PyYAML-X==6\.0"):
        open_bundle(blob, digest_of(blob), SIGNER)


def test_the_header_lists_what_is_really_referenced(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "project")
        .write("helper.py", "import rich\ndef f():\n    import networkx\n")
        .cell("import helper, pydantic, pandas, json\ndef step(m: pydantic.BaseModel): helper.f(); import redis")
        .bundle("step")
        .run()
    )
    blob = Path(made.blob).read_bytes()
    opened = envelope.unseal(blob, made.digest, SIGNER, is_installed=lambda _: True)
    assert set(opened.header.packages) == {"pydantic", "rich"}
    assert set(opened.header.lazy_packages) == {"networkx", "redis"}
    assert opened.header.packages["pydantic"]
    assert opened.header.modules == ["helper"]
    assert opened.header.steps == ["step"]


def test_the_header_is_signed_too(tmp_path: Path) -> None:
    made = bundle_of(tmp_path, step=lambda: 1)
    data = made.blob.replace(b'{"flow":"orders"', b'{"flow":"orderz"')
    assert data != made.blob
    with pytest.raises(SignatureMismatch):
        open_bundle(data, digest_of(data), SIGNER)


def test_texts_come_back_as_they_were() -> None:
    source = envelope.ModuleSource("a.b", "/x/é.py", "package", "x = '\ud800é'\r\n")
    packed = Texts({"a.b": source}, {"cell": "line\n"}).pack()
    assert Texts.unpack(packed) == Texts({"a.b": source}, {"cell": "line\n"})
