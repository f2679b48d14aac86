"""Keys for caches: what holds arrays is the same if its values are, and another once one was changed in place."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

T = TypeVar("T")


class ByValue(Generic[T]):
    """``value``, hashed and compared by what its arrays hold now."""

    value: T
    key: bytes

    def __init__(self, value: T) -> None:
        self.value = value
        self.key = digest(value)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByValue) and self.key == other.key


def digest(value: Any) -> bytes:
    """A hash of a dataclass's arrays, nested ones included, and of its class."""
    if value in _locked:
        return _locked[value]
    found = blake2b(digest_size=16)
    _feed(found, value)
    return found.digest()


def locked(value: T) -> T:
    """``value`` with arrays of its own that nobody can write to, so that its hash is known from now on."""
    made = type(value)(**{each.name: _copied(getattr(value, each.name)) for each in fields(value)})  # type: ignore[arg-type]
    _locked[made] = digest(made)
    return made


def _copied(array: Any) -> Any:
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


_locked: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()


def _feed(found: Any, value: Any) -> None:
    if is_dataclass(value):
        found.update(type(value).__name__.encode())
        for each in fields(value):
            _feed(found, getattr(value, each.name))
    else:
        array = np.ascontiguousarray(value)
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(array.data)
