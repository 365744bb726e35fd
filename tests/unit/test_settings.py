"""Settings come from `NBFLOW_*`, are read once, and a wrong one is a sentence that names the variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbflow.errors import NbflowError
from nbflow.settings import PREFIX, Settings, read_settings, settings, unknown_variables
from tests.house.source import ROOT


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    settings.cache_clear()


def test_without_variables_there_are_defaults() -> None:
    found = read_settings()
    assert (found.redis_url, found.secret, found.namespace, found.workers) == (None, None, "nbflow", None)
    assert (found.lease_s, found.heartbeat_s, found.idle_minutes) == (10, 1, 15)


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFLOW_REDIS_URL", "rediss://user:pass@host:6380/1")
    monkeypatch.setenv("NBFLOW_PROJECT", "/somewhere")
    monkeypatch.setenv("NBFLOW_WORKERS", "0")
    found = read_settings()
    assert (found.redis_url, found.project, found.workers) == ("rediss://user:pass@host:6380/1", Path("/somewhere"), 0)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFLOW_REDIS_URL", "")
    assert read_settings().redis_url is None


def test_settings_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings()
    monkeypatch.setenv("NBFLOW_NAMESPACE", "other")
    assert settings() is first


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NBFLOW_LEASE_S", "soon"),
        ("NBFLOW_WORKERS", "-1"),
        ("NBFLOW_NAMESPACE", "a:b"),
        ("NBFLOW_REDIS_URL", "localhost:6379"),
        ("NBFLOW_IDLE_MINUTES", "0"),
    ],
)
def test_a_wrong_value_is_a_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(NbflowError) as caught:
        read_settings()
    assert caught.value.message.startswith(f"{variable} cannot be ")
    assert caught.value.hint


def test_a_lease_outlives_lost_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFLOW_LEASE_S", "2")
    with pytest.raises(NbflowError, match="NBFLOW_LEASE_S should be at least three times NBFLOW_HEARTBEAT_S"):
        read_settings()


def test_a_secret_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: neither the text of the settings nor an error, nor its context, holds a secret or a URL's password."""
    monkeypatch.setenv("NBFLOW_SECRET", "correct-horse-battery-staple")
    monkeypatch.setenv("NBFLOW_REDIS_URL", "redis://:hunter2@host")
    shown = f"{read_settings()!r} {read_settings()}"
    assert "staple" not in shown
    assert "hunter2" not in shown
    assert read_settings().secret_bytes == b"correct-horse-battery-staple"
    monkeypatch.setenv("NBFLOW_SECRET", "short")
    with pytest.raises(NbflowError) as caught:
        read_settings()
    assert "short" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_misspelled_variable_is_noticed() -> None:
    assert unknown_variables(["NBFLOW_REDISURL", "NBFLOW_SECRET", "NBFLOW_CLIENT_NAME", "PATH"]) == [
        "NBFLOW_REDISURL means nothing to nbflow. Did you mean NBFLOW_REDIS_URL?"
    ]


def test_each_setting_is_described_here_and_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"`{PREFIX}{name.upper()}`" in page, name
