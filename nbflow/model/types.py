"""The classes that payloads may be made of, by label.

A label is data: the reader looks it up in its own table and never imports by it. Both sides have the same table because
it is made from the flow's bundle, in the order in which the steps refer to the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["TypeTable"]


class TypeTable:
    """Label <-> class. A label is the class's qualified name, with `#2`, `#3`… when another class already has it."""

    __slots__ = ("_classes", "_labels")

    def __init__(self, classes: Iterable[type] = ()) -> None:
        self._labels: dict[type, str] = {}
        self._classes: dict[str, type] = {}
        for cls in classes:
            self.add(cls)

    @classmethod
    def from_labels(cls, labels: Mapping[str, type]) -> TypeTable:
        """The table that another one was, from its `labels()`."""
        table = cls()
        for label, known in labels.items():
            table._put(label, known)
        return table

    def add(self, cls: type) -> str:
        """Make the class known and return its label; adding it again changes nothing."""
        if cls in self._labels:
            return self._labels[cls]
        label, number = cls.__qualname__, 2
        while label in self._classes:
            label, number = f"{cls.__qualname__}#{number}", number + 1
        self._put(label, cls)
        return label

    def label(self, cls: Any) -> str | None:
        """The label of a class, or None if it is not known here. Only the class itself counts, not a subclass."""
        return self._labels.get(cls)

    def get(self, label: str) -> type | None:
        """The class of a label, or None if the label is not known here."""
        return self._classes.get(label)

    def labels(self) -> dict[str, type]:
        """All of it, in the order of adding."""
        return dict(self._classes)

    def _put(self, label: str, cls: type) -> None:
        self._labels[cls], self._classes[label] = label, cls

    def __contains__(self, cls: Any) -> bool:
        return cls in self._labels

    def __iter__(self) -> Iterator[type]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return f"TypeTable({', '.join(self._classes)})"
