"""A training under way: the one mutable thing, and all that a checkpoint must hold."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from spikeloop.data.dataset import Batches, Loader, loader
from spikeloop.engine.step import Told
from spikeloop.errors import CheckpointError, InvalidNetwork, OutOfRange
from spikeloop.training.place import Place
from spikeloop.training.settings import Settings
from spikeloop.training.step import Ahead, rightly

PIECE = 0.05  # seconds of batches that are gone through at once, at most: so long waits whoever wants to stop
EVALUATION_BATCH = 1000
EVALUATION_NUMBER = 1 << 40  # trials of evaluations count from here: their noise is their own, and always the same


class Metrics(TypedDict):
    """One epoch, one line of `metrics.jsonl`. Accuracies are shares of 1; floored: share of the spikes whose slope the
    rule raised to its floor; None: not known. `loss` and `accuracy` are means over the epoch's steps."""

    epoch: int
    loss: float
    accuracy: float
    validation_accuracy: float | None
    spikes_per_sample: float
    samples_per_second: float
    floored: float | None
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where a training is: `step` of `steps` in `epoch` of `epochs` (from 0), and the means of this epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    spikes_per_sample: float
    samples_per_second: float


@dataclass
class Sums:
    """What has been added up in the present epoch. differentiated, floored: spikes, see `EventProp.tally`."""

    samples: int = 0
    loss: float = 0.0
    correct: int = 0
    spikes: int = 0
    differentiated: int = 0
    floored: int = 0
    seconds: float = 0.0


class Course:
    """A network on its way through `epochs` epochs of `data`."""

    network: nn.Module
    settings: Settings
    epochs: int
    place: Place
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    batches: Loader[Any]
    rates: list[float]
    epoch: int
    taken: int
    sums: Sums

    def __init__(self, network: nn.Module, data: Batches[Any], settings: Settings, epochs: int, place: Place) -> None:
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if not parameters:
            raise InvalidNetwork(
                "no parameter requires a gradient: there is nothing to train",
                where="network",
                todo="Use requires_grad_()",
            )
        if len(data) == 0:
            raise OutOfRange(
                "the data set is empty: there is nothing to learn from", where="data", expected="at least one sample"
            )
        self.network, self.settings, self.epochs, self.place = network, settings, epochs, place
        self.parameters = parameters
        self.optimizer = settings.optimizer(parameters, settings.learning_rate)
        self.batches = loader(data, settings.batch_size, shuffle=True, seed=settings.seed)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.epoch, self.taken = 0, 0
        self.history: list[Metrics] = []
        self.sums = Sums()
        self._pace = math.inf  # seconds a step

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return len(self.batches)

    def pieces(self) -> Iterator[tuple[Any, Tensor, int]]:
        """What is left of the epoch, each piece to be given to `step`."""
        return self.batches.several(self._at_once)

    def _at_once(self) -> int:
        """How many batches."""
        if not self.place.several(self.network, self.optimizer):
            return 1
        return int(min(PIECE, self.settings.checkpoint_period) / self._pace)

    def step(self, drive: Any, label: Tensor, batches: int = 1) -> None:
        """A batch, or several of the usual size one after the other: forward, loss, backward, update."""
        size = max(label.shape[0], 1) if batches == 1 else self.settings.batch_size
        schedule, epoch, epochs, steps = self.settings.schedule, self.epoch, self.epochs, self.steps
        factors = [schedule(epoch + step / steps, epochs) for step in range(self.taken, self.taken + batches)]
        while factors:
            taken = self._step(drive, label, size, factors)
            factors = factors[taken:]
            if factors:
                drive, label = drive[taken * size :], label[taken * size :]

    def _step(self, drive: Any, label: Tensor, size: int, factors: list[float]) -> int:
        """The first of the batches, and as many after it as go at once; how many."""
        began = time.perf_counter()
        samples, number = label.shape[0], self.epoch * self.steps + self.taken
        for parameter in self.parameters:
            parameter.grad = None
        tally = self.place.tally
        spikes, floored = tally.spikes, tally.floored
        ahead = Ahead(size, [self.rates[0] * factor for factor in factors], self.optimizer)
        learned = self.place.learn(self.network, drive, label, number, ahead)
        self.sums.differentiated += tally.spikes - spikes
        self.sums.floored += tally.floored - floored
        taken = len(learned.steps)
        if learned.waits:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factors[taken - 1]
            self.optimizer.step()
        for k, told in enumerate(learned.steps):
            self._add(told, min(size, samples - k * size))
        self.taken += taken
        seconds = time.perf_counter() - began
        self.sums.seconds += seconds
        self._pace = seconds / taken
        return taken

    def _add(self, told: Told, samples: int) -> None:
        sums = self.sums
        sums.samples += samples
        sums.loss += told.loss * samples
        sums.correct += told.right
        sums.spikes += told.spikes

    def progress(self) -> Progress:
        """Where it is now."""
        line = self._means()
        return Progress(
            self.epoch,
            self.epochs,
            self.taken,
            self.steps,
            line["loss"],
            line["accuracy"],
            line["spikes_per_sample"],
            line["samples_per_second"],
        )

    def close_epoch(self, validation: Batches[Any] | None) -> None:
        """Write down the epoch and begin the next one."""
        line = self._means()
        if validation is not None:
            line["validation_accuracy"] = accuracy(self.network, validation, self.place)
        self.history.append(line)
        self.epoch, self.taken, self.sums = self.epoch + 1, 0, Sums()

    def _means(self) -> Metrics:
        sums, samples = self.sums, max(self.sums.samples, 1)
        return Metrics(
            epoch=self.epoch,
            loss=sums.loss / samples,
            accuracy=sums.correct / samples,
            validation_accuracy=None,
            spikes_per_sample=sums.spikes / samples,
            samples_per_second=sums.samples / sums.seconds if sums.seconds else 0.0,
            floored=sums.floored / sums.differentiated if sums.differentiated else None,
            seconds=sums.seconds,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the future depends on."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                found[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        found["generator"] = torch.get_rng_state()
        return found

    def numbers(self) -> dict[str, Any]:
        """Everything else that the future depends on, as JSON can hold it."""
        return {
            "epoch": self.epoch,
            "taken": self.taken,
            "sums": asdict(self.sums),
            "history": self.history,
            "batches": self.batches.state_dict(),
        }

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on from what `tensors` and `numbers` returned."""
        try:
            restore_network(self.network, tensors)
            self.optimizer.load_state_dict(
                {"state": _states(tensors), "param_groups": self.optimizer.state_dict()["param_groups"]}
            )
            self.batches.load_state_dict(numbers["batches"])
            self.epoch, self.taken = int(numbers["epoch"]), int(numbers["taken"])
            self.sums, self.history = Sums(**numbers["sums"]), list(numbers["history"])
            torch.set_rng_state(tensors["generator"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint does not belong to this training ({error})",
                todo="Give the network, data and settings it was made with",
            ) from error


def restore_network(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give `network` the weights that `Course.tensors` returned. Raises CheckpointError where they do not fit."""
    try:
        network.load_state_dict(_under("network.", tensors))
    except RuntimeError as error:
        raise CheckpointError("the checkpoint is of another network", expected=str(error)) from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _states(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = value
    return states


@torch.no_grad()
def accuracy(network: nn.Module, data: Batches[Any], place: Place) -> float:
    """The share of `data` that the network answers rightly; a silent answer is wrong."""
    correct = 0
    for number, (drive, label) in enumerate(loader(data, EVALUATION_BATCH), EVALUATION_NUMBER):
        correct += rightly(place.readout.decide(place.run(network, drive, number=number)), label)
    return correct / max(len(data), 1)
