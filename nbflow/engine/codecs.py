"""What opens the payloads of runs in this process: for each run the classes of the code it was started with."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from nbflow.errors import TrustError, UnknownRun
from nbflow.model.codec import Codec
from nbflow.model.signing import Signer
from nbflow.model.types import TypeTable
from nbflow.store.connect import Store, translated

if TYPE_CHECKING:
    from nbflow.define.bundle import LoadedFlow

__all__ = ["Codecs", "opening"]

T = TypeVar("T")

_MOST = 64
"""So many runs, and so many bundles' classes, are remembered."""
opening = threading.RLock()
"""While a bundle is open its modules are those of the whole process: one thread at a time."""


class Codecs:
    """The codecs of one store's runs. Pickles are opened once their signature by the namespace's secret is verified."""

    def __init__(self, store: Store, signer: Signer, artifacts: Any) -> None:
        self._store, self._signer, self._artifacts = store, signer, artifacts
        self._types: OrderedDict[str, TypeTable] = OrderedDict()
        self._of_runs: OrderedDict[str, Codec] = OrderedDict()

    def of_types(self, types: TypeTable) -> Codec:
        """For payloads of code at hand."""
        return Codec(types=types, signer=self._signer, artifacts=self._artifacts, open_pickles=True)

    def of_run(self, run: str) -> Codec:
        """For payloads of a run. Where its code cannot be verified here, its classes are unknown, with a warning."""
        codec = self._of_runs.get(run)
        if codec is None:
            with translated(self._store.url):
                digest = self._store.text.hget(self._store.keys.run(run), "bundle") or ""
            codec = self.of_types(self._types_of(str(digest)))
            _keep(self._of_runs, run, codec)
        return codec

    def with_code(self, run: str, ask: Callable[[LoadedFlow], T]) -> T:
        """What `ask` finds in the code of a run, while that is open. A TrustError if it cannot be verified here."""
        from nbflow.define.bundle import open_bundle  # noqa: PLC0415 - loads cloudpickle

        with translated(self._store.url):
            digest = str(self._store.text.hget(self._store.keys.run(run), "bundle") or "")
            blob = self._store.client.get(self._store.keys.bundle(digest))
        if not isinstance(blob, bytes):
            raise UnknownRun(f"The code of the run {run[:8]} is not there (any more).", hint="Was it deleted?")
        with opening:
            flow = open_bundle(blob, digest, self._signer)
            with flow.world.entered():
                return ask(flow)

    def remember(self, digest: str, types: TypeTable) -> None:
        """The classes of a bundle that was made here."""
        _keep(self._types, digest, types)

    def forget(self, run: str) -> None:
        """The run is gone."""
        self._of_runs.pop(run, None)

    def _types_of(self, digest: str) -> TypeTable:
        if digest not in self._types:
            from nbflow.define.bundle import open_bundle  # noqa: PLC0415 - loads cloudpickle

            with translated(self._store.url):
                blob = self._store.client.get(self._store.keys.bundle(digest))
            try:
                with opening:
                    types = open_bundle(blob, digest, self._signer).types if isinstance(blob, bytes) else TypeTable()
            except TrustError as error:
                warnings.warn(f"Classes of the run's own code are not known here. {error}", stacklevel=2)
                types = TypeTable()
            self.remember(digest, types)
        return self._types[digest]


def _keep(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > _MOST:
        kept.popitem(last=False)
