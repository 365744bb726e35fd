"""A secret is a name. Its value is found where it is asked for, and masked in what is told from then on."""

from __future__ import annotations

import base64
import json
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from nbflow import Flow, Secret
from nbflow.define.fingerprint import Fingerprints
from nbflow.define.sources import Project
from nbflow.errors import DefinitionError, UnknownSecret
from nbflow.model import secret, veil
from nbflow.settings import settings
from nbflow.worker.records import record_text
from nbflow.worker.streams import Lines
from nbflow.worker.tape import Tape, cut, entries
from tests.bad_input import refused

VALUE = "correct horse battery"


@pytest.fixture(autouse=True)
def forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for secrets, and a veil that is gone after the test."""
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.setenv("NBFLOW_SECRETS_DIR", str(folder))
    monkeypatch.setattr(secret, "_in_use", [])
    settings.cache_clear()
    with veil.only_here():
        yield folder
    monkeypatch.undo()
    settings.cache_clear()


# -- the name ---------------------------------------------------------------------------------------------------------


def test_it_travels_and_shows_itself_as_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DWH", VALUE)
    dwh = Secret("DWH")
    assert dwh.get() == VALUE
    assert repr(dwh) == str(dwh) == f"{dwh}" == "Secret('DWH')"
    assert VALUE.encode() not in pickle.dumps(dwh)
    assert pickle.loads(pickle.dumps(dwh)) == dwh
    assert {dwh: 1}[Secret("DWH")] == 1
    assert dwh != Secret("OTHER")


@pytest.mark.parametrize("name", ["", "a b", "p@ss", "../x", "/etc/passwd", ".hidden", "x" * 101, 5, None, b"DWH"])
def test_what_is_no_name_is_refused_and_not_shown_as_it_may_be_a_value(name: Any) -> None:
    with refused(DefinitionError, "Secret(…)", "never the value"):
        Secret(name)
    with pytest.raises(DefinitionError) as caught:
        Secret("pa ss wo rd")
    assert "wo rd" not in str(caught.value)


def test_nbflows_own_settings_are_no_secrets_of_steps() -> None:
    with refused(DefinitionError, "NBFLOW_SECRET"):
        Secret("NBFLOW_SECRET")


def test_the_fingerprint_of_a_step_knows_the_name_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fingerprint(dwh: Secret) -> str:
        return Fingerprints(Project(tmp_path)).of(lambda: dwh)

    before = fingerprint(Secret("DWH"))
    monkeypatch.setenv("DWH", VALUE)
    Secret("DWH").get()
    assert fingerprint(Secret("DWH")) == before != fingerprint(Secret("OTHER"))


# -- where it is found ------------------------------------------------------------------------------------------------


def test_the_environment_comes_before_files_and_files_before_the_keyring(
    monkeypatch: pytest.MonkeyPatch, forgets: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def get_password(service: str, name: str) -> str | None:
        asked.append((service, name))
        return {"DWH": "from the keyring"}.get(name)

    ring: Any = types.ModuleType("keyring")
    ring.__spec__, ring.get_password = types.SimpleNamespace(), get_password
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert Secret("DWH").get() == "from the keyring"
    assert asked == [("nbflow", "DWH")]
    (forgets / "DWH").write_text("from a file\n")
    assert Secret("DWH").get() == "from a file"
    monkeypatch.setenv("DWH", "from the environment")
    assert Secret("DWH").get() == "from the environment"
    with secret.given({"DWH": "given"}):
        assert Secret("DWH").get() == "given"
    assert asked == [("nbflow", "DWH")]


def test_a_keyring_that_nobody_opens_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ring: Any = types.ModuleType("keyring")
    ring.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "keyring", ring)
    with refused(UnknownSecret, "There is no secret 'DWH' here", "the environment variable DWH"):
        Secret("DWH").get()


def test_a_missing_one_says_where_to_put_it_and_what_is_near(forgets: Path) -> None:
    (forgets / "DWH_PASSWORD").write_text(VALUE)
    with refused(UnknownSecret, "Did you mean 'DWH_PASSWORD'?", str(forgets / "DWH_PASWORD")):
        Secret("DWH_PASWORD").get()


def test_in_a_folder_of_a_project_its_files_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NBFLOW_SECRETS_DIR")
    monkeypatch.delenv("NBFLOW_PROJECT", raising=False)
    settings.cache_clear()
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    kept = tmp_path / "project" / ".nbflow" / "secrets"
    kept.mkdir(parents=True)
    (kept / "DWH").write_text(VALUE)
    monkeypatch.chdir(deep)
    assert Secret("DWH").get() == VALUE
    secret.look_from_here()
    monkeypatch.chdir("/")
    assert Secret("DWH").get() == VALUE
    secret._in_use.clear()
    monkeypatch.setenv("NBFLOW_PROJECT", str(tmp_path / "project"))
    settings.cache_clear()
    assert Secret("DWH").get() == VALUE


def test_what_cannot_be_read_or_not_be_masked_is_refused(forgets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (forgets / "BINARY").write_bytes(b"\xff\xfe\x00")
    with refused(UnknownSecret, "'BINARY' cannot be read", "no text in UTF-8"):
        Secret("BINARY").get()
    monkeypatch.setenv("PIN", "123")
    with refused(UnknownSecret, "'PIN' has 3 characters"):
        Secret("PIN").get()
    (forgets / "LONG").write_text("x" * (veil.LONGEST + 1))
    with refused(UnknownSecret, "'LONG' has 65537 characters"):
        Secret("LONG").get()
    monkeypatch.setenv("EMPTY", "")
    with refused(UnknownSecret, "There is no secret 'EMPTY' here"):
        Secret("EMPTY").get()


# -- masking ----------------------------------------------------------------------------------------------------------


@for_all(st.text(min_size=veil.SHORTEST, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_a_value_is_masked_in_every_text_that_holds_it(value: str, before: str, after: str) -> None:
    with veil.only_here():
        veil.learn("X", value)
        assert value not in veil.masked(before + value + after) or value in before + "***" + after
        assert repr(value)[1:-1] not in veil.masked(repr([value]))
        tree = veil.masked_tree(json.loads(json.dumps({"a": [value], "b": {"c": before + value}})))
        assert tree["a"] == ["***"]


@for_all(st.text(min_size=8, max_size=30), st.binary(max_size=7), st.binary(max_size=7))
def test_a_value_is_found_in_base64_wherever_it_begins(value: str, before: bytes, after: bytes) -> None:
    with veil.only_here():
        veil.learn("X", value)
        for written in (base64.b64encode, base64.urlsafe_b64encode):
            text = written(before + value.encode("utf-8", "replace") + after).decode()
            assert "***" in veil.masked(text)
        assert veil.found_in_text(
            json.dumps({"v": base64.b64encode(before + value.encode("utf-8", "replace")).decode()})
        )


def test_a_value_of_several_lines_is_masked_line_by_line() -> None:
    veil.learn("KEY", "-----BEGIN KEY-----\nMIIEvQIBADANBg\nshort\n-----END KEY-----")
    assert veil.masked("it is MIIEvQIBADANBg, no short one") == "it is ***, no short one"


def test_a_short_value_is_refused_only_where_it_is_the_whole_text() -> None:
    veil.learn("PIN", "1234")
    assert veil.found_in_text('{"pin":"1234"}') == "PIN"
    assert veil.found_in_text('{"order":"no 12345","n":1234}') is None
    assert veil.found_in(b"1234") is None


def test_a_value_is_found_in_bytes_of_several_encodings_and_across_pieces() -> None:
    veil.learn("X", VALUE)
    for raw in (VALUE.encode(), VALUE.encode("utf-16-le"), VALUE.encode("utf-32-le")):
        assert veil.found_in(memoryview(b"\0" * ((1 << 20) - 5) + raw + b"\0")) == "X"
    assert veil.found_in(b"nothing of it") is None


def test_records_are_masked_before_they_are_cut() -> None:
    veil.learn("X", VALUE)
    told = record_text("log", {"level": "info", "message": "x" * 8185 + VALUE, "fields": {VALUE: [VALUE], "o": Bare()}})
    data = json.loads(told)
    assert data["fields"] == {"***": ["***"], "o": "a bare ***"}
    assert "correct" not in told.decode()
    long = record_text("log", {"level": "info", "message": "m", "fields": {"f": "x" * 990 + VALUE + "x" * 70_000}})
    assert b"correct" not in long
    assert json.loads(record_text("artifact", {"name": VALUE, "ref": {}}))["name"] == "***"


class Bare:
    def __str__(self) -> str:
        return f"a bare {VALUE}"


@for_all(st.integers(0, 60), st.lists(st.integers(1, 9000), max_size=4))
def test_lines_are_masked_however_they_are_written_and_wherever_they_are_cut(place: int, sizes: list[int]) -> None:
    with veil.only_here():
        veil.learn("X", VALUE)
        tape = Tape()
        lines = Lines(tape, "stdout", "info")
        text = "a" * (8192 * 2 - place) + VALUE + "b" * 9000 + "\n"
        at = 0
        for size in [*sizes, len(text)]:
            lines.write(text[at : at + size])
            at += size
        told = "".join(data["message"] for _, data in entries(tape.read(0, tape.size()), tape.mark, final=True)[0])
        assert told == "a" * (8192 * 2 - place) + "***" + "b" * 9000


@for_all(st.integers(0, len(VALUE)))
def test_a_piece_of_a_line_is_cut_where_no_value_is(place: int) -> None:
    with veil.only_here():
        veil.learn("X", VALUE)
        raw = b"a" * 100 + VALUE.encode()[: len(VALUE) - place]
        told, taken = cut(raw, b"\x1emark")
        assert taken == (100 if place else len(raw)) or (place == len(VALUE) and taken == 100)
        assert all("corr" not in data["message"] for _, data in told)


def test_what_is_learned_is_told_to_who_watches(tmp_path: Path) -> None:
    with (tmp_path / "told").open("w+b") as file:
        veil.tell_to(file.fileno())
        try:
            veil.learn("X", VALUE)
            veil.learn("X", VALUE)
            veil.learn("Y", "another\nvalue")
        finally:
            veil._tellers.clear()
        with veil.only_here():
            veil.known.clear()
            veil.learn_from(file.fileno())
            assert veil.known == {VALUE: "X", "another\nvalue": "Y"}


# -- flows ------------------------------------------------------------------------------------------------------------


def reads(secret: Secret) -> Flow:
    flow = Flow("t_secret")

    @flow.entry
    def read() -> int:
        print("it is", secret.get())
        return len(secret.get())

    return flow


def test_a_test_gives_values_and_forgets_them() -> None:
    run = reads(Secret("DWH")).test(secrets={"DWH": VALUE})
    assert run.result == len(VALUE)
    assert list(run.logs["message"]) == ["it is ***"]
    assert VALUE not in veil.known


def test_a_test_without_the_value_fails_the_step() -> None:
    run = reads(Secret("NOWHERE_TO_BE_FOUND")).test()
    assert "UnknownSecret: There is no secret 'NOWHERE_TO_BE_FOUND' here." in str(run.error)


@pytest.mark.parametrize("given", [{"DWH": 5}, {"DWH": None}, {"DWH": b"bytes"}, {5: 5}, 5, "DWH"])
def test_values_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(DefinitionError):
        reads(Secret("DWH")).test(secrets=given)


def test_a_check_tells_which_secrets_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = reads(Secret("NOWHERE_TO_BE_FOUND"))
    (finding,) = flow.findings()
    assert (finding.code, finding.severity, finding.step) == ("secret-not-here", "info", "read")
    assert "nbflow secret set NOWHERE_TO_BE_FOUND" in finding.hint
    monkeypatch.setenv("NOWHERE_TO_BE_FOUND", VALUE)
    assert flow.findings() == []


def test_a_value_that_looks_like_a_password_is_pointed_to_secrets() -> None:
    password = "hunter2"
    flow = Flow("t_leak")

    @flow.entry
    def connect() -> int:
        return len(password)

    (finding,) = flow.findings()
    assert finding.code == "secret-captured"
    assert 'Secret("NAME")' in finding.hint
