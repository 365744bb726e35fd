"""An earlier run as its keys tell it: what each task received, what was emitted, how elements were called. Reads only."""

from __future__ import annotations

import json
from typing import Any, cast

from nbflow.model.receipt import sum_of
from nbflow.store.connect import Store, translated

__all__ = ["StoredRun"]

_PAGE = 500


class StoredRun:
    """One run in a store; what was read once is kept. `fields` are those of its hash, none if there is no such run."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run = store, run_id
        self._text: Any = store.text
        with translated(store.url):
            self.fields = cast("dict[str, str]", self._text.hgetall(store.keys.run(run_id)))
        self._entries: dict[str, dict[str, Any] | None] = {}
        self._emitted: dict[str, dict[str, str] | None] = {}
        self._sums: dict[str, str] = {}
        self._names: dict[str, str] | None = None

    def is_there(self) -> bool:
        """Whether it was not deleted meanwhile."""
        with translated(self._store.url):
            return bool(self._text.exists(self._store.keys.run(self._run)))

    def field(self, name: str) -> str | None:
        return self.fields.get(name)

    def step_entry(self, step: str) -> dict[str, Any] | None:
        """The step in the run's plan table."""
        if step not in self._entries:
            with translated(self._store.url):
                text = self._text.hget(self._store.keys.plan(self.fields.get("plan", "")), f"step:{step}")
            self._entries[step] = json.loads(text) if text else None
        return self._entries[step]

    def emitted(self, topic: str) -> dict[str, str] | None:
        """The payloads of a topic by index; None if none are kept."""
        if topic not in self._emitted:
            self._emitted[topic] = self._scanned(self._store.keys.emits(self._run, topic)) or None
        return self._emitted[topic]

    def payload(self, topic: str, index: str) -> str | None:
        return (self.emitted(topic) or {}).get(index)

    def sum(self, topic: str) -> str:
        if topic not in self._sums:
            self._sums[topic] = sum_of((self.emitted(topic) or {}).items())
        return self._sums[topic]

    def name(self, task: str) -> str | None:
        """What `key=` called an element."""
        if self._names is None:
            self._names = self._scanned(self._store.keys.names(self._run))
        return self._names.get(task)

    def _scanned(self, key: str) -> dict[str, str]:
        with translated(self._store.url):
            return dict(self._text.hscan_iter(key, count=_PAGE))
