"""A run folder: config.json, metrics.jsonl (one line per epoch), checkpoint.safetensors, and the pictures.

The checkpoint holds the history too and is replaced as a whole, so metrics.jsonl can always be written anew from it: a
line that was torn by a kill, or that is ahead of the checkpoint, does no harm.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spikeloop import checkpoint
from spikeloop._version import __version__
from spikeloop.errors import CheckpointError
from spikeloop.training.course import Course, Metrics, restore_network

KIND = "training"
MAY_CHANGE = ("spikeloop", "epochs", "note", "checkpoint_period")


class RunFolder:
    """The files of one training."""

    path: Path
    config: Path
    metrics: Path
    checkpoint: Path

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoint = self.path / "checkpoint.safetensors"

    def open(self, course: Course, resume: bool) -> None:
        """Make the folder, or bring `course` to where the run in it stopped.

        Raises CheckpointError where there is a run that is not to be resumed, or was made with other settings.
        """
        config = _config_of(course)
        if self.checkpoint.exists():
            if not resume:
                raise CheckpointError(
                    "there is a run already",
                    where=str(self.path),
                    todo="resume=True goes on with it; or take another folder",
                )
            self._check_same(config)
            course.restore(*self._read_checkpoint())
        self.path.mkdir(parents=True, exist_ok=True)
        _replace(self.config, json.dumps(config, indent=2) + "\n")
        self._write_metrics(course.history)

    def save(self, course: Course) -> None:
        """Checkpoint, then metrics: either is written as a whole or not at all."""
        checkpoint.save(self.checkpoint, course.tensors(), {"kind": KIND, **course.numbers()})
        self._write_metrics(course.history)

    def read_config(self) -> dict[str, Any]:
        """What the run was made with."""
        try:
            return json.loads(self.config.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                "there is no run", where=str(self.path), expected="a folder written by fit"
            ) from error

    def read_metrics(self) -> list[Metrics]:
        """The epochs that are complete."""
        _, numbers = self._read_checkpoint()
        return list(numbers["history"])

    def load_network(self, network: nn.Module) -> None:
        """Give `network` the weights of the checkpoint. Raises CheckpointError where they do not fit."""
        tensors, _ = self._read_checkpoint()
        restore_network(network, tensors)

    def _read_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if not self.checkpoint.exists():
            raise CheckpointError(
                "there is no checkpoint yet", where=str(self.path), expected="a folder written by fit"
            )
        tensors, numbers = checkpoint.load(self.checkpoint)
        if numbers.get("kind") != KIND:
            raise CheckpointError(
                "this is no checkpoint of a training", where=str(self.checkpoint), expected="one written by fit"
            )
        return tensors, numbers

    def _write_metrics(self, history: list[Metrics]) -> None:
        _replace(self.metrics, "".join(json.dumps(line) + "\n" for line in history))

    def _check_same(self, config: Mapping[str, Any]) -> None:
        before = self.read_config()
        for name, now in config.items():
            if name not in MAY_CHANGE and before.get(name) != now:
                raise CheckpointError(
                    f"the run in it was made with {name} = {before.get(name)!r}, not {now!r}",
                    where=str(self.path),
                    todo="Resume with the same settings, or take another folder",
                )


def _config_of(course: Course) -> dict[str, Any]:
    described = {name: _plain(value) for name, value in (_fields(course.settings) | _fields(course.place)).items()}
    sizes = course.place.sizes(course.network)
    return {"spikeloop": __version__, "epochs": course.epochs, "steps": course.steps, "network": sizes, **described}


def _fields(of: Any) -> dict[str, Any]:
    """What two of a kind must agree in to be equal."""
    return {field.name: getattr(of, field.name) for field in dataclasses.fields(of) if field.compare}


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it, the same in every process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    if dataclasses.is_dataclass(value):
        return {"type": type(value).__qualname__, **{name: _plain(part) for name, part in _fields(value).items()}}
    return getattr(value, "__qualname__", None) or type(value).__qualname__


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
