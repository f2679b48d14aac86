"""Arrays in a .npz that knows its format and version: written whole or not at all, read without pickles."""

from __future__ import annotations

import os
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeloop.errors import DataError


def write_arrays(path: str | os.PathLike[str], form: str, version: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed .npz; a file of that name survives if the disk is full, and two writers do not mix."""
    target = Path(path)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, format=np.array(form), version=np.array(version), allow_pickle=False, **arrays)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_arrays(
    path: str | os.PathLike[str], form: str, version: int, names: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """The arrays `names` of a file of `write_arrays`. Raises DataError if it is missing, broken, foreign or newer."""
    where, expected = str(path), f"a file of format {form}"
    try:
        with Path(path).open("rb") as raw, zipfile.ZipFile(raw):  # np.load of something else would be no archive
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise DataError("no such file", where=where, expected=expected) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot be read ({error})", where=where, expected=expected) from error
    foreign = DataError("the file is of another kind", where=where, expected=expected)
    if str(parts.get("format")) != form or "version" not in parts:
        raise foreign
    if int(parts["version"]) > version:
        raise DataError(
            f"written in version {int(parts['version'])} of the format",
            where=where,
            expected=f"at most version {version}",
            todo="A newer spikeloop wrote it: update",
        )
    if not set(names) <= set(parts):
        raise foreign
    return {name: parts[name] for name in names}


def write_checked(path: str | os.PathLike[str], form: str, version: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """`write_arrays`, with a checksum of them in the file."""
    write_arrays(path, form, version, {**arrays, "checksum": np.array(checksum(arrays))})


def read_checked(
    path: str | os.PathLike[str], form: str, version: int, names: tuple[str, ...], todo: str
) -> dict[str, NDArray[Any]]:
    """The arrays ``names`` of a file of `write_checked`, and "version". Raises as `read_arrays`, and where the checksum
    is wrong: then ``todo`` is what to do."""
    arrays = read_arrays(path, form, version, (*names, "checksum", "version"))
    if str(arrays["checksum"]) != checksum({name: arrays[name] for name in names}):
        raise DataError("the checksum is wrong", where=str(path), todo=f"The file is damaged: {todo}")
    return arrays


def checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of their names, kinds, shapes and contents."""
    found = sha256()
    for name, value in sorted(arrays.items()):
        found.update(f"{name} {value.dtype.str} {value.shape} ".encode() + value.tobytes())
    return found.hexdigest()


def user_cache() -> Path | None:
    """The user's folder for files that can be had again; None where pooch (extra `cli`), which knows it, is missing."""
    try:
        import pooch  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return None
    return Path(pooch.os_cache("spikeloop"))
