"""`nbflow secret set | list`: values of secrets as private files of the project, never shown."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nbflow import Secret
from nbflow.cli.main import app
from nbflow.errors import CommandRefused, DefinitionError
from nbflow.model import veil
from nbflow.settings import settings

VALUE = "correct horse battery"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("NBFLOW_PROJECT", "NBFLOW_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    with veil.only_here():
        yield tmp_path
    monkeypatch.undo()
    settings.cache_clear()


def test_a_value_is_kept_for_its_owner_alone_and_found_by_its_name(project: Path) -> None:
    said = CliRunner().invoke(app, ["secret", "set", "DWH"], input=f"{VALUE}\n")
    assert said.exit_code == 0, said.output
    assert VALUE not in said.output
    kept = project / ".nbflow" / "secrets" / "DWH"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert Secret("DWH").get() == VALUE


def test_the_list_has_names_and_no_values(project: Path) -> None:
    assert "No secrets are kept" in CliRunner().invoke(app, ["secret", "list"]).output
    for name in ("DWH", "API"):
        CliRunner().invoke(app, ["secret", "set", name], input=VALUE)
    assert CliRunner().invoke(app, ["secret", "list"]).output.split() == ["API", "DWH"]
    assert json.loads(CliRunner().invoke(app, ["secret", "list", "--json"]).output) == ["API", "DWH"]


def test_bad_names_and_values_write_nothing(project: Path) -> None:
    for name, value, kind in (
        ("../x", VALUE, DefinitionError),
        ("DWH", "", CommandRefused),
        ("DWH", "abc", CommandRefused),
    ):
        said = CliRunner().invoke(app, ["secret", "set", name], input=value)
        assert isinstance(said.exception, kind), said.output
    assert not (project / ".nbflow" / "secrets").exists()
