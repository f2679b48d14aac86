"""The tasks whose networks do not spike, but are multiplied on the array of a chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from spikeloop.ann import Float, OnChips, Quantised, convert
from spikeloop.ann.place import Place
from spikeloop.chip.twin import Twin
from spikeloop.data import HAR, MNIST, ArrayDataset, WornAnew, compressed, shifting
from spikeloop.errors import OutOfRange
from spikeloop.tasks import Split, SubstrateName
from spikeloop.training import Cosine, HighestOutput, RunFolder, Settings, Training, evaluate_ann, fit_ann
from spikeloop.training.loop import Watch

SAMPLE = 1000  # training samples whose numbers the layers' scales are found from

Stage = Literal["float", "converted"]


@dataclass(frozen=True)
class AnnTask:
    """What these tasks share: a model is trained in floating point, converted, and trained where it shall run.

    The second training is not needed to classify well in the array's integers; on a chip, whose synapses and columns
    differ, it is.
    """

    name: ClassVar[str]

    substrate: SubstrateName = "ideal"
    """The array's integers in software, or the twin of a chip: then the second training is in the loop."""
    chip: int = 0
    """Which chip the twin is of."""
    epochs: int = 5
    """Of the second training."""
    float_epochs: int = 12
    """Of the first one."""
    batch_size: int = 100
    learning_rate: float = 1e-3
    """Of the second training."""
    float_learning_rate: float = 3e-3
    """Of the first one."""
    smoothing: float = 0.0
    """Share of the labels that is spread over all classes."""
    validate: bool = True
    """Hold samples out of the training, to see after each epoch how it goes; else it learns from them, too."""

    @property
    def looped(self) -> bool:
        """Whether it runs on a chip."""
        return self.substrate == "twin"

    def data(self, split: Split) -> ArrayDataset:
        """What it is trained, validated and tested on; only what it is trained on is augmented."""
        raise NotImplementedError

    def layers(self) -> list[nn.Module]:
        """Of the float model."""
        raise NotImplementedError

    def float_model(self, seed: int) -> nn.Sequential:
        """The model before it is trained."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(*self.layers())

    def converted(self, model: nn.Module) -> nn.Module:
        """The model with its layers on the array, scaled for training samples as they are."""
        data = self.data("train")
        data.augment = None
        sample, _ = data.batch(torch.linspace(0, len(data) - 1, SAMPLE).long())
        return convert(model, sample)

    def place(self) -> Place | OnChips:
        """Where the layers of the converted model compute."""
        return OnChips(Twin(self.chip)) if self.looped else Quantised()

    def settings(self, seed: int, stage: Stage = "converted") -> Settings:
        """Of the training of the float model, or of the converted one; both make the task again from their note."""
        return Settings(
            readout=HighestOutput(self.smoothing),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate if stage == "converted" else self.float_learning_rate,
            schedule=Cosine(),
            seed=seed,
            note={"task": self.name, "options": dataclasses.asdict(self), "seed": seed, "stage": stage},
        )


@dataclass(frozen=True)
class HARTask(AnnTask):
    """What somebody is doing, of six activities, from the motion sensors of a smartphone (commercial use prohibited).

    Windows of 2.56 s, a model of three convolutions: 72 x 32, 128 x 64 and 128 x 64 synapses, then 448 x 6.
    """

    name: ClassVar[str] = "har"

    float_epochs: int = 60
    """Of the first one."""
    epochs: int = 10
    """Of the second training."""
    learning_rate: float = 3e-3
    """Of the second training."""
    float_learning_rate: float = 5e-3
    """Of the first one."""
    smoothing: float = 0.1
    """Share of the labels that is spread over all classes."""
    dropout: float = 0.3
    """Share of the hidden activations that is left out, anew for each sample of the training."""
    tilt: float = 10.0
    """Degrees about each axis by which the phone is turned in the training, a standard deviation."""

    def data(self, split: Split) -> ArrayDataset:
        """Windows of 16 people to learn from, of 5 others to validate, 2996 of 9 others to test."""
        if split == "train":
            return HAR("train" if self.validate else "train+validation", WornAnew(self.tilt), compressed)
        return HAR(split, prepare=compressed)

    def layers(self) -> list[nn.Module]:
        return [
            *_normed(nn.Conv1d(9, 32, 8, 4, bias=False), nn.BatchNorm1d(32)),
            *_normed(nn.Conv1d(32, 64, 4, 2, bias=False), nn.BatchNorm1d(64)),
            nn.Dropout(self.dropout),
            *_normed(nn.Conv1d(64, 64, 2, 2, bias=False), nn.BatchNorm1d(64)),
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(448, 6),
        ]


@dataclass(frozen=True)
class MNISTAnnTask(AnnTask):
    """Handwritten digits, a convolution and two dense layers: the model that the chip's makers classified them with.

    100 x 20 synapses for 25 windows of 10 x 10 pixels, then 500 x 128 and 128 x 10.
    """

    name: ClassVar[str] = "mnist-ann"

    dropout: float = 0.1
    """Share of the hidden activations that is left out, anew for each sample of the training."""
    shift: int = 1
    """Pixels by which training images are moved at most, along each axis."""

    def data(self, split: Split) -> ArrayDataset:
        """55000 images to learn from, 5000 to validate, 10000 to test."""
        learned = split == "train"
        images = MNIST(split if self.validate or not learned else "train+validation")
        return ArrayDataset(images.images[:, None], images.labels, shifting(self.shift) if learned else None)

    def layers(self) -> list[nn.Module]:
        return [
            nn.Conv2d(1, 20, 10, 5, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(500, 128),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(128, 10),
        ]


ANN_TASKS: tuple[type[AnnTask], ...] = (HARTask, MNISTAnnTask)


def train(
    task: AnnTask,
    model: nn.Module,
    seed: int,
    stage: Stage,
    folder: Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> Training:
    """Train ``model``, in place: what `AnnTask.float_model` gives, or what `AnnTask.converted` makes of it later."""
    first = stage == "float"
    return fit_ann(
        model,
        task.data("train"),
        task.settings(seed, stage),
        epochs=task.float_epochs if first else task.epochs,
        place=Float() if first else task.place(),
        validation=task.data("validation") if task.validate else None,
        folder=folder,
        resume=resume,
        watch=watch,
    )


def accuracy(task: AnnTask, model: nn.Module, stage: Stage, split: Split = "test") -> float:
    """The share of a split that the model answers rightly where the task runs."""
    return evaluate_ann(model, task.data(split), Float() if stage == "float" else task.place())


def load(task: AnnTask, seed: int, stage: Stage, folder: RunFolder) -> nn.Module:
    """The model of a run folder."""
    model = task.float_model(seed)
    model = model if stage == "float" else task.converted(model)
    folder.load_network(model)
    return model


def ann_task_of(name: str, options: Mapping[str, Any]) -> AnnTask:
    """The task of that name with options as `dataclasses.asdict` gives them."""
    for kind in ANN_TASKS:
        if kind.name == name:
            return kind(**options)
    raise OutOfRange(f"no task {name!r}", expected=" or ".join(kind.name for kind in ANN_TASKS))


def _normed(product: nn.Module, norm: nn.Module) -> list[nn.Module]:
    """A layer, its batch norm, which is folded into it later, and what makes activations of its results."""
    return [product, norm, nn.ReLU()]
