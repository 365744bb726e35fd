"""The parts of an `Nbflow`: connection, secret, readers, launchers, each made when it is first needed."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nbflow.define.asked import asked_path
from nbflow.engine.codecs import Codecs
from nbflow.engine.launch import Launcher
from nbflow.errors import SecretMissing
from nbflow.local.project import Project, find_project
from nbflow.local.stack import Stack
from nbflow.model.codec import Codec
from nbflow.model.signing import Signer
from nbflow.settings import settings
from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.connect import Store
from nbflow.store.dust import own_folder
from nbflow.store.index import Index
from nbflow.store.keys import Keys
from nbflow.store.log import RunLog
from nbflow.store.wire import parse_url, shown_url
from nbflow.watch.follow import Follower

if TYPE_CHECKING:
    from nbflow.engine.schedules import Schedules
    from nbflow.engine.triggers import Triggers
    from nbflow.engine.versions import Versions
    from nbflow.hands import Hands

__all__ = ["Parts"]

_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class Parts:
    """Nothing is connected before it is needed, and what was closed connects again when it is used again."""

    def __init__(
        self,
        url: str | None = None,
        *,
        secret: str | bytes | None = None,
        namespace: str | None = None,
        project: str | Path | None = None,
    ) -> None:
        chosen = settings()
        self._url = url or chosen.redis_url
        self._secret = secret.encode() if isinstance(secret, str) else secret or chosen.secret_bytes
        self.namespace = Keys(namespace or chosen.namespace).namespace
        root = chosen.project if project is None else asked_path(project)
        self.project = find_project() if root is None else Project(root.absolute())
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Nbflow of {shown_url(self._url) if self._url else self.project.root}>"

    @cached_property
    def stack(self) -> Stack:
        """The local stack of the project directory, running or not."""
        return Stack(
            self.project, workers=settings().workers, idle_s=settings().idle_minutes * 60, namespace=self.namespace
        )

    @property
    def store(self) -> Store:
        """The server, checked: it answers, it is new enough, its keys are of our format."""
        return self._store

    @property
    def is_connected(self) -> bool:
        """Whether a server was asked for anything yet."""
        return "_store" in self.__dict__

    @cached_property
    def _store(self) -> Store:
        store = Store(self._url or self.stack.ensure(), self.namespace)
        store.check()
        return store

    @cached_property
    def signer(self) -> Signer:
        """Signs with NBFLOW_SECRET, or with the project's own secret where the server is on this machine."""
        if self._secret is not None:
            return Signer(self._secret)
        if self._url:
            address = parse_url(self._url)
            if not address.path and address.host not in _LOCAL_HOSTS:
                raise SecretMissing(
                    f"The server at {shown_url(self._url)} is not on this machine, and there is no secret to sign code with.",
                    hint="Set NBFLOW_SECRET to the same 16 or more characters here and where the workers run.",
                )
        return Signer(self.project.secret())

    @cached_property
    def artifacts(self) -> StoredArtifacts:
        """Where large payloads lie."""
        client: Any = self.store.client
        folder = partial(own_folder, client.execute_command, self.store.keys)
        return StoredArtifacts(self.store.client, self.store.keys.artifact, self.artifact_place, folder=folder)

    @property
    def artifact_place(self) -> str | None:
        """NBFLOW_ARTIFACTS, or a folder of the project where the stack is local."""
        return settings().artifacts or (None if self._url else str(self.project.folder / "artifacts"))

    @property
    def log(self) -> RunLog:
        """The events of runs, in the server as it is now."""
        return RunLog(self.store)

    @property
    def follower(self) -> Follower:
        """Follows runs, on one connection for all who do."""
        return self._follower

    @cached_property
    def _follower(self) -> Follower:
        return Follower(self.store)

    @cached_property
    def index(self) -> Index:
        return Index(self.store)

    @cached_property
    def _codecs(self) -> Codecs:
        return Codecs(self.store, self.signer, self.artifacts)

    @property
    def hands(self) -> Hands:
        """What is done to single tasks; see `Run.task`."""
        from nbflow.hands import Hands

        return Hands(self.store, self.signer, self.artifacts, self._codecs)

    @cached_property
    def _launcher(self) -> Launcher:
        return Launcher(self.store, self.signer)

    @cached_property
    def published(self) -> Versions:
        """The published versions of flows."""
        from nbflow.engine.versions import Versions

        return Versions(self.store, self.signer, self._launcher)

    @cached_property
    def planned(self) -> Schedules:
        """The schedules of flows."""
        from nbflow.engine.schedules import Schedules

        return Schedules(self.store, self.signer, self.published, self._launcher, self.artifacts)

    @cached_property
    def subscribed(self) -> Triggers:
        """The triggers, and the flows on them."""
        from nbflow.engine.triggers import Triggers

        return Triggers(self.store, self.signer, self.published, self._launcher, self.artifacts)

    def close(self) -> None:
        """Close the connections. The object connects again when it is used again."""
        for part in filter(None, [self.__dict__.pop(name, None) for name in ("_follower", "_store")]):
            part.close()
        for name in ("artifacts", "index", "published", "planned", "subscribed", "_codecs", "_launcher"):
            self.__dict__.pop(name, None)

    def codec_for(self, run_id: str) -> Codec:
        """Opens the payloads of a run: pickles by this namespace's secret, classes from the code the run was started with."""
        return self._codecs.of_run(run_id)
