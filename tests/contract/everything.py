"""All there is on a server, to see that nothing changed."""

from __future__ import annotations

from nbflow.store.connect import Store

__all__ = ["everything"]


def everything(store: Store) -> dict[bytes, object]:
    return {key: store.client.dump(key) for key in store.client.scan_iter(count=1000)}
