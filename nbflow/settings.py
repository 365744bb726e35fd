"""What the environment says: the `NBFLOW_*` variables, read once, each with its meaning beside it.

A value that cannot be used is one sentence that names the variable. This module starts nothing and touches no file.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nbflow.errors import NbflowError

__all__ = ["INTERNAL_VARIABLES", "PREFIX", "Settings", "read_settings", "settings", "unknown_variables"]

PREFIX = "NBFLOW_"
INTERNAL_VARIABLES = frozenset({"NBFLOW_CLIENT_NAME", "NBFLOW_QUEUES", "NBFLOW_WORKER_OF"})
"""Set by nbflow for the processes it starts; not for people."""

_SECRET_LENGTH = 16
_DURATION = re.compile(r"(\d+(\.\d+)?(ms|[smhd]))+")
_SCHEMES = ("redis://", "rediss://", "unix://")


def _address(url: str) -> str:
    if not url.startswith(_SCHEMES):
        raise ValueError("it should begin with redis://, rediss:// or unix://")
    return url


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < _SECRET_LENGTH:
        raise ValueError(f"it should have at least {_SECRET_LENGTH} characters; `nbflow secret new` makes one")
    return secret


def _duration(text: str) -> str:
    if text != "never" and not _DURATION.fullmatch(text):
        raise ValueError("it should be a duration such as 7d, 12h or 1d12h, or never")
    return text


class Settings(BaseSettings):
    """The settings of this process. They do not change after they were read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    redis_url: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="The server: `redis://`, `rediss://` (TLS) or `unix://`. Without it nbflow starts its own.",
    )
    secret: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        default=None,
        description="What code and payloads are signed with; the same wherever flows are started and executed. "
        "The embedded server has a secret of its own in `.nbflow/`.",
    )
    namespace: str = Field(
        default="nbflow",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$",
        description="The prefix of all keys: two namespaces on one server know nothing of each other.",
    )
    artifacts: str | None = Field(
        default=None,
        description="Where large payloads lie: a directory, or a URL of fsspec (`s3://…`). Without it, in the server.",
    )
    secrets_dir: Path | None = Field(
        default=None,
        description='Where workers find the files of secrets, one each, named as `Secret("NAME")` names them. Without it, '
        "`.nbflow/secrets` of the project.",
    )
    project: Path | None = Field(
        default=None,
        description="The project directory. Without it, the nearest folder upwards that has `.nbflow/`, "
        "`pyproject.toml` or `.git`, else the current one.",
    )
    workers: int | None = Field(
        default=None, ge=0, le=1024, description="How many local workers run. Without it, one for each core, at most 4."
    )
    lease_s: float = Field(
        default=10.0, ge=1.0, le=3600, description="Seconds without a heartbeat after which a worker is taken for dead."
    )
    heartbeat_s: float = Field(default=1.0, gt=0.0, le=600, description="Seconds between two heartbeats of a worker.")
    idle_minutes: float = Field(
        default=15.0,
        gt=0.0,
        description="Minutes after which the local server and its workers end, when nothing is connected, running or "
        "scheduled.",
    )

    retention: Annotated[str, AfterValidator(_duration)] = Field(
        default="7d",
        description="How long a run is kept after its end (`12h`, `30d`), where its flow does not say it; `never` removes "
        "none.",
    )

    @model_validator(mode="after")
    def _a_lease_outlives_lost_heartbeats(self) -> Self:
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError("NBFLOW_LEASE_S should be at least three times NBFLOW_HEARTBEAT_S")
        return self

    @property
    def secret_bytes(self) -> bytes | None:
        return None if self.secret is None else self.secret.get_secret_value().encode()


@functools.cache
def settings() -> Settings:
    """The settings, read at the first call. Tests that change the environment call `settings.cache_clear()`."""
    return read_settings()


def read_settings() -> Settings:
    """Read the environment now. A value that cannot be used raises `NbflowError` naming the variable."""
    try:
        return Settings()
    except ValidationError as error:
        raise _sentence(error) from None  # pydantic's own text would show the value of a secret


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """A sentence for each `NBFLOW_*` variable that means nothing, with the nearest that does."""
    known = {_variable(name) for name in Settings.model_fields} | INTERNAL_VARIABLES
    strangers = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return [f"{name} means nothing to nbflow.{_offer(name, known)}" for name in strangers]


def _offer(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known - INTERNAL_VARIABLES), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _variable(field: str) -> str:
    return PREFIX + field.upper()


def _sentence(error: ValidationError) -> NbflowError:
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return NbflowError(f"{reason}.", hint="Change one of the two.")
    field = str(first["loc"][0])
    shown = "" if field in {"secret", "redis_url"} else f" (it is {first['input']!r})"
    meaning = Settings.model_fields[field].description or ""
    reason = reason[0].lower() + reason[1:]
    return NbflowError(f"{_variable(field)} cannot be used: {reason}{shown}.", hint=f"Correct or unset it. {meaning}")
