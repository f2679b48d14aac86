"""Configurations, drives, readouts and array passes as bytes: arrays in a .npz that knows its format and version."""

from __future__ import annotations

import io
import zipfile
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import AddressedEvents, Configuration, Readout
from spikeloop.chip.mac import ArrayPass
from spikeloop.errors import DataError

VERSION = 1
_KEPT = ("state", "program")
T = TypeVar("T", bound=Configuration | AddressedEvents | Readout | ArrayPass)


def to_bytes(value: Configuration | AddressedEvents | Readout | ArrayPass) -> bytes:
    """``value`` as one .npz archive; what a chip keeps for itself (a readout's state) is none of it."""
    out = io.BytesIO()
    np.savez(out, format=np.array(_form(type(value))), version=np.array(VERSION), allow_pickle=False, **_arrays(value))
    return out.getvalue()


def from_bytes(kind: type[T], data: bytes) -> T:
    """The ``kind`` that `to_bytes` wrote. Raises ``DataError`` where it is broken, foreign or newer."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot be read ({error})", where=kind.__name__, expected="an archive of to_bytes") from error
    if str(arrays.get("format")) != _form(kind) or "version" not in arrays:
        raise DataError(f"the bytes are {arrays.get('format')}", where=kind.__name__, expected=_form(kind))
    if int(arrays["version"]) > VERSION:
        raise DataError(
            f"written in version {int(arrays['version'])}", where=kind.__name__, expected=f"at most version {VERSION}",
            todo="A newer spikeloop wrote it: update",
        )  # fmt: skip
    return _made(kind, arrays, "")


def _form(kind: type[Any]) -> str:
    return f"spikeloop.chip.{kind.__name__}"


def _arrays(value: Any, prefix: str = "") -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for each in fields(value):
        part = getattr(value, each.name)
        if is_dataclass(part):
            found |= _arrays(part, f"{prefix}{each.name}.")
        elif part is not None and each.name not in _KEPT:
            found[prefix + each.name] = np.asarray(part)
    return found


def _made(kind: type[Any], arrays: dict[str, NDArray[Any]], prefix: str) -> Any:
    hints, parts = get_type_hints(kind), dict[str, Any]()
    for each in fields(kind):
        name, hint = prefix + each.name, hints[each.name]
        if each.name in _KEPT:
            continue
        if type(None) in get_args(hint):  # nothing was written of what is not there
            (hint,) = (each for each in get_args(hint) if each is not type(None))
            if not any(key.startswith(f"{name}.") for key in arrays):
                continue
        if is_dataclass(hint):
            parts[each.name] = _made(hint, arrays, f"{name}.")  # type: ignore[arg-type]
        elif name not in arrays:
            raise DataError(f"{name!r} is missing", where=kind.__name__)
        else:
            parts[each.name] = int(arrays[name]) if hint is int else arrays[name]
    return kind(**parts)
