"""The memory of the plasticity processor: how many bytes the states of its kernels take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from spikeloop.chip.fractional import Lanes
from spikeloop.errors import DoesNotFit
from spikeloop.plasticity.memory import Memory

_WORD = 4  # bytes of a number, or of what points to something


def check_memory(memories: Mapping[str, Memory], most: int, where: str) -> None:
    """Raise ``DoesNotFit`` where the kernels of one processor, by program, keep more than ``most`` bytes."""
    needs = {name: bytes_of(memory.values()) for name, memory in memories.items()}
    need = sum(needs.values())
    if need <= most:
        return
    what = f"the state of the rule takes {need} bytes"
    if len(needs) > 1:
        each = ", ".join(f"program {name!r} {size}" for name, size in needs.items())
        what = f"the states of a processor's rules take {need} bytes: {each}"
    raise DoesNotFit(what, where=where, expected=f"at most {most}: the memory of the plasticity processor")


def bytes_of(values: Iterable[Any]) -> int:
    """What values take, with all that containers and objects among them hold; one that is held twice is stored once."""
    need, seen, left = 0, dict[int, object](), list(values)
    while left:
        value = left.pop()
        held = _held(value)
        if held is None:
            need += _size(value)
        elif id(value) in seen:
            need += _WORD
        else:
            seen[id(value)] = value
            left.extend(held)
    return need


def _held(value: Any) -> Iterable[Any] | None:
    """What is in a container or an object; None: it is a number, a vector or text."""
    if getattr(value, "dtype", None) == np.dtype(object):
        return value.ravel().tolist()
    if isinstance(value, str | bytes | bytearray | range | type | Lanes) or hasattr(value, "dtype"):
        return None
    if isinstance(value, Mapping):
        return [each for item in value.items() for each in item]
    if isinstance(value, Iterable) and hasattr(value, "__len__"):
        return value
    return getattr(value, "__dict__", {}).values() or None


def _size(value: Any) -> int:
    if isinstance(value, Lanes):
        return value.size * value.format.bits // 8
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if hasattr(value, "dtype"):
        return int(np.prod(value.shape)) * min(value.dtype.itemsize, _WORD)
    return _WORD
