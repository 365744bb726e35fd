"""What the doctor makes of what it sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbflow.cli import checks
from nbflow.cli.checks import Check, examine, in_range
from nbflow.settings import settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith("NBFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NBFLOW_PROJECT", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def found(name: str) -> Check:
    return next(check for check in examine() if check.name == name)


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("3.0.0", ">=3.0,<3.1", True),
        ("3.1", ">=3.0,<3.1", False),
        ("3.0.9", ">=3.0,<3.1", True),
        ("2.16.1", ">=3.0,<3.1", False),
        ("8.1.0", "<9,>=8", True),
        ("10.0", ">=9", True),
        ("8.0.0rc1", ">=8", True),
        ("1.2", "", True),
        ("1.2.0", "==1.2,!=1.3", True),
    ],
)
def test_versions_compare_by_number(version: str, wanted: str, fits: bool) -> None:
    assert in_range(version, wanted) is fits


def test_a_fresh_project_is_healthy_and_stays_as_it_was(project: Path) -> None:
    """Law: the doctor changes nothing: no folder, no secret, no stack."""
    assert {check.status for check in examine()} <= {"ok", "warn"}
    assert list(project.iterdir()) == []


def test_the_ranges_of_packages_come_from_our_own_metadata(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    assert in_range("3.0.1", checks._required("rq"))
    assert not in_range("3.1", checks._required("rq"))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.0")
    assert (found("rq").status, found("redis").status) == ("fail", "fail")


def test_a_secret_that_others_can_read_fails(project: Path) -> None:
    secret = project / ".nbflow" / "secret"
    secret.parent.mkdir()
    secret.write_text("x" * 64)
    secret.chmod(0o644)
    assert (found("secret").status, found("secret").hint) == ("fail", f"Run: chmod 600 {secret}")
    secret.chmod(0o600)
    assert found("secret").status == "ok"


def test_a_far_server_needs_a_secret(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBFLOW_REDIS_URL", "redis://192.0.2.1:1")
    monkeypatch.setattr(checks, "_server", lambda *_, **__: [])
    settings.cache_clear()
    assert found("secret").status == "fail"
    monkeypatch.setenv("NBFLOW_SECRET", "sixteen characters")
    settings.cache_clear()
    assert found("secret").detail == "NBFLOW_SECRET"
    assert list(project.iterdir()) == []


def test_a_setting_that_cannot_be_used_fails_and_one_that_means_nothing_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBFLOW_WORKER", "2")
    assert found("settings").detail == "NBFLOW_WORKER means nothing to nbflow. Did you mean NBFLOW_WORKERS?"
    monkeypatch.setenv("NBFLOW_WORKERS", "many")
    settings.cache_clear()
    assert found("settings").status == "fail"


def test_artifacts_need_a_place_that_can_be_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("artifacts").status == "ok"
    monkeypatch.setenv("NBFLOW_ARTIFACTS", "/proc/nowhere")
    settings.cache_clear()
    assert found("artifacts").status == "fail"
    monkeypatch.setenv("NBFLOW_ARTIFACTS", "memory://artifacts")
    settings.cache_clear()
    assert found("artifacts").status == "ok"


@pytest.mark.parametrize(
    ("info", "status"),
    [
        ({"used_memory": 5, "maxmemory": 0, "maxmemory_policy": "noeviction"}, "ok"),
        ({"used_memory": 5, "maxmemory": 100, "maxmemory_policy": "noeviction"}, "ok"),
        ({"used_memory": 95, "maxmemory": 100, "maxmemory_policy": "noeviction"}, "fail"),
        ({"used_memory": 5, "maxmemory": 100, "maxmemory_policy": "allkeys-lru"}, "fail"),
        ({"used_memory": 5, "maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, "warn"),
    ],
)
def test_a_server_must_not_drop_keys(info: dict[str, Any], status: str) -> None:
    assert checks._memory(info).status == status


@pytest.mark.parametrize(
    ("info", "status"),
    [
        ({"aof_enabled": 1}, "ok"),
        ({"aof_enabled": 0}, "warn"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "fail"),
    ],
)
def test_a_server_should_keep_what_it_acknowledged(info: dict[str, Any], status: str) -> None:
    (check,) = checks._kept(info)
    assert check.status == status
