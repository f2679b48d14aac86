"""Tensors and metadata in one safetensors file with a format version, written so that a crash leaves the old one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as _to_bytes
from torch import Tensor, nn

from spikeloop.errors import CheckpointError

__all__ = ["load", "load_network", "save", "save_network"]

FORMAT = "spikeloop"
VERSION = 1
"""The version written; files of a newer one are refused."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

StrPath = str | os.PathLike[str]


def save(path: StrPath, tensors: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None) -> None:
    """Write ``tensors`` and ``meta`` (anything JSON can hold) to ``path``, all or nothing.

    The file is written beside ``path``, forced to the disk and then renamed over it: when the disk is full or the
    process dies, what was at ``path`` before is still there. Raises ``OSError`` in the first case.
    """
    header = {"format": FORMAT, "version": str(VERSION), "meta": json.dumps(dict(meta or {}))}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    _write(Path(path), _to_bytes(plain, header))


def load(path: StrPath) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata that `save` wrote to ``path``.

    Raises ``CheckpointError`` for a file that is truncated, foreign or of a newer version, ``FileNotFoundError`` for
    none.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            header = file.metadata() or {}
            meta = _meta(header, os.fspath(path))
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118 - not a mapping
    except CheckpointError:
        raise
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"the file cannot be read ({error})",
            where=os.fspath(path),
            expected="a checkpoint written by spikeloop",
            todo="It is truncated or something else; use another copy",
        ) from error


def save_network(path: StrPath, network: nn.Module, meta: Mapping[str, Any] | None = None) -> None:
    """Write the state_dict of ``network`` (or of any module) to ``path``; see `save`."""
    save(path, network.state_dict(), meta)


def load_network(path: StrPath, network: nn.Module) -> dict[str, Any]:
    """Load what `save_network` wrote into ``network``, which must be built alike, and return the metadata.

    Raises ``CheckpointError`` where the names or the shapes differ.
    """
    tensors, meta = load(path)
    own = network.state_dict()
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or extra:
        raise CheckpointError(
            f"it lacks {', '.join(missing) or 'nothing'} and has {', '.join(extra) or 'nothing'} in excess",
            where=os.fspath(path),
            expected="a checkpoint of a network with the same populations and projections",
        )
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            raise CheckpointError(
                f"its {name} has shape {tuple(tensors[name].shape)}",
                where=os.fspath(path),
                expected=f"{tuple(value.shape)}, as in the network",
            )
    network.load_state_dict(tensors)
    return meta


def _meta(header: Mapping[str, str], where: str) -> dict[str, Any]:
    if header.get("format") != FORMAT:
        raise CheckpointError(
            "the file was not written by spikeloop", where=where, expected=f"format {FORMAT!r} in its metadata"
        )
    version = header.get("version", "")
    if not version.isdecimal() or int(version) > VERSION:
        raise CheckpointError(
            f"the file has format version {version or 'none'}",
            where=where,
            expected=f"at most {VERSION}",
            todo="It was written by a newer spikeloop: upgrade",
        )
    try:
        return json.loads(header["meta"])
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            "its metadata cannot be read", where=where, expected="JSON", todo="Use another copy"
        ) from error


def _write(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content``, all or nothing."""
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            what = f"{error.strerror}; what was in the file before is still there: make room and go on from it"
            raise OSError(error.errno, what, str(path)) from error
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
