"""Training of networks without spikes, whose layers compute in floating point, on an array, or on chips."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from spikeloop.ann import Experiment, OnChips
from spikeloop.ann.place import QUANTISED
from spikeloop.ann.place import Place as ArrayPlace
from spikeloop.data.dataset import Batches
from spikeloop.engine.step import Told
from spikeloop.errors import WrongType, kind_of
from spikeloop.gradient.eventprop import Tally
from spikeloop.training.course import Course, accuracy
from spikeloop.training.loop import Training, Watch, follow
from spikeloop.training.place import by_graph
from spikeloop.training.readout import HighestOutput
from spikeloop.training.settings import Regulariser, Settings
from spikeloop.training.step import Ahead, Learned, rightly


def fit_ann(  # noqa: PLR0913  (as in `fit`)
    model: nn.Module,
    data: Batches[Tensor],
    settings: Settings | None = None,
    *,
    epochs: int = 1,
    place: ArrayPlace | OnChips = QUANTISED,
    validation: Batches[Tensor] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> Training:
    """Train a network without spikes, in place: its layers of `spikeloop.ann` compute at `place`, say on a chip.

    Forward passes are those of the place, gradients those of the same products without rounding and noise. A layer
    that was not calibrated, or is none of `spikeloop.ann`, computes in floating point. Everything else as in `fit`.
    """
    settings = settings or Settings()
    return follow(
        Course(model, data, settings, epochs, AnnPlace.of(model, settings, place)), validation, folder, resume, watch
    )


def evaluate_ann(model: nn.Module, data: Batches[Tensor], place: ArrayPlace | OnChips = QUANTISED) -> float:
    """The share of `data` that `model`, its layers computing at `place`, answers rightly."""
    return accuracy(model, data, AnnPlace.of(model, Settings(), place))


@dataclass(frozen=True)
class AnnPlace:
    """Of a model of layers that compute at ``place``; others compute where torch does."""

    readout: HighestOutput
    place: ArrayPlace | OnChips
    experiment: Experiment = field(compare=False)
    regulariser: Regulariser | None = None

    @classmethod
    def of(cls, model: nn.Module, settings: Settings, place: ArrayPlace | OnChips) -> AnnPlace:
        readout = settings.readout or HighestOutput()
        if not isinstance(readout, HighestOutput):
            raise WrongType(f"the readout is {kind_of(readout)}", where="readout", expected="HighestOutput, or None")
        return cls(readout, place, Experiment(model, place), settings.regulariser)

    @property
    def tally(self) -> Tally:
        return Tally()

    def run(self, network: nn.Module, drive: Tensor, *, training: bool = False, number: int = 0) -> Tensor:
        self.experiment.train(training)
        return self.experiment(drive, number=number)

    def several(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        return False

    def learn(self, network: nn.Module, drive: Tensor, label: Tensor, number: int, ahead: Ahead) -> Learned:
        outputs = self.run(network, drive, training=True, number=number)
        loss = by_graph(self.readout, outputs, label, self.regulariser)
        return Learned([Told(loss, rightly(self.readout.decide(outputs), label), 0)])

    def sizes(self, network: nn.Module) -> dict[str, object]:
        return {name: list(parameter.shape) for name, parameter in network.named_parameters()}
