"""Data slots: values of a context under names that the whole domain knows.

A name belongs to the domain, a value to a context: the same slot is empty in every other one. Any thread may enter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["Slots"]


class _Slot:
    """A name that is in use. When it is freed, the values that contexts have under it die with it."""

    __slots__ = ("__weakref__", "name")

    def __init__(self, name: str) -> None:
        self.name = name


_lock = threading.RLock()
_by_name: dict[str, _Slot] = {}


class Slots(MutableMapping[str, Any]):
    """The data of one context: a mapping of names to values.

    To write under a new name makes the slot; `allocate` does that where nobody else may have the name.
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[_Slot, Any] = WeakKeyDictionary()

    def allocate(self, name: str) -> None:
        """Take a name for a slot, in all contexts. Raises ValueError where it is in use."""
        _check(name)
        with _lock:
            if name in _by_name:
                raise ValueError(f"the data slot {name!r} is in use in this domain; take another name, or free it")
            _by_name[name] = _Slot(name)

    def free(self, name: str) -> None:
        """Give a name back; its values are gone from all contexts. Raises KeyError where it is not in use."""
        with _lock:
            del _by_name[name]

    def __getitem__(self, name: str) -> Any:
        with _lock:
            if not self._has(name):
                raise KeyError(name)
            return self._values[_by_name[name]]

    def __setitem__(self, name: str, value: Any) -> None:
        _check(name)
        with _lock:
            self._values[_by_name.setdefault(name, _Slot(name))] = value

    def __delitem__(self, name: str) -> None:
        with _lock:
            if not self._has(name):
                raise KeyError(name)
            del self._values[_by_name[name]]

    def _has(self, name: object) -> bool:
        slot = _by_name.get(name) if isinstance(name, str) else None
        return slot is not None and slot in self._values

    def __contains__(self, name: object) -> bool:
        with _lock:
            return self._has(name)

    def __iter__(self) -> Iterator[str]:
        with _lock:
            return iter([slot.name for slot in self._values])

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Slots({dict(self)!r})"


def _check(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a data slot is a text, not {name!r}")
