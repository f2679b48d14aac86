"""How to train: one value that says everything but what is trained, on what, and where."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spikeloop._attach import Output
from spikeloop.loss import silent_neurons
from spikeloop.record import Record
from spikeloop.training.fused import FusedAdam
from spikeloop.training.readout import Derivatives, HighestOutput, Readout

Schedule = Callable[[float, int], float]
"""(epochs done, a real number; epochs in all) -> factor on the learning rate: nothing to store, nothing out of step."""

OptimizerFactory = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]
"""(parameters, learning rate) -> optimiser."""


Regulariser = Callable[[Any], Tensor]
"""From a record, or from outputs, to a term that is added to the loss."""


@dataclass(frozen=True)
class Decay:
    """factor^k in epoch k = 0, 1, ...; a factor of 1 is a constant learning rate."""

    factor: float = 1.0

    def __call__(self, epoch: float, epochs: int) -> float:
        return self.factor ** int(epoch)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `floor` over all epochs (Loshchilov and Hutter, 1608.03983)."""

    floor: float = 0.0

    def __call__(self, epoch: float, epochs: int) -> float:
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * min(epoch / max(epochs, 1), 1.0)))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 1412.6980), its steps taken by the engine.

    beta2: memory of the squared gradients. Exact gradients have heavy tails: with the usual 0.999 one grazing spike
    slows the weights it concerns for a thousand steps, with 0.95 for twenty. Large batches need that, see
    docs/training.md.
    """

    beta2: float = 0.999

    def __call__(self, parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        return FusedAdam(parameters, lr=learning_rate, betas=(0.9, self.beta2), fused=True)


@dataclass(frozen=True)
class LiftSilent:
    """A regulariser: strength * sum over neurons of relu(minimum - mean count over the batch), see `silent_neurons`."""

    populations: tuple[str, ...] = ("hidden",)
    minimum: float = 0.1
    strength: float = 1.0

    def __call__(self, record: Record) -> Tensor:
        lifts = [silent_neurons(record.count[name], self.minimum) for name in self.populations]
        return self.strength * torch.stack(lifts).sum()

    def derivatives(self, record: Record) -> Derivatives:
        """The term, and its derivatives by the counts."""
        value, found = 0.0, dict[Output, Tensor]()
        for name in self.populations:
            count = record.count[name]
            missing = self.minimum - count.sum(0) / max(len(count), 1)
            value += float(missing.relu().sum())
            slope = (missing > 0).to(count.dtype) * -self.strength / max(len(count), 1)
            found["count", name] = found.get(("count", name), torch.zeros(())) + slope.expand(count.shape)
        return self.strength * value, found


@dataclass(frozen=True)
class SpikePenalty:
    """A regulariser: strength * mean over the batch of the sum over neurons of count^2 (Cramer et al. 2022).

    Surrogate gradients let activity grow where nothing holds it back.
    """

    populations: tuple[str, ...] = ("hidden",)
    strength: float = 1e-3

    def __call__(self, record: Record) -> Tensor:
        counts = [record.count[name] for name in self.populations]
        costs = [count.square().sum() / max(len(count), 1) for count in counts]
        return self.strength * torch.stack(costs).sum()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train.

    duration: seconds that a sample runs; None takes `duration` of the data set.
    readout: None takes the natural one of the last population, see `readout_of`; without spikes `HighestOutput`.
    regulariser: from a record, or from outputs, to a term that is added to the loss.
    schedule: factor on the learning rate during the training.
    seed: of the order of the samples and of dropout.  checkpoint_period: seconds between checkpoints within an epoch.
    note: kept in the run folder's config.json as it is.
    """

    duration: float | None = None
    readout: Readout | HighestOutput | None = None
    regulariser: Regulariser | None = None
    batch_size: int = 32
    learning_rate: float = 5e-3
    optimizer: OptimizerFactory = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=Decay)
    seed: int = 0
    checkpoint_period: float = 30.0
    note: Mapping[str, object] = field(default_factory=dict)
