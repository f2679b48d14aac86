"""Where and how a sample is run and read: all that a course has to know of the kind of its network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from spikeloop._attach import attach
from spikeloop._run import Drive, carried_out, run
from spikeloop.engine.step import Told
from spikeloop.errors import OutOfRange, WrongType
from spikeloop.events import Events
from spikeloop.gradient.eventprop import EventProp, Tally
from spikeloop.network import Network
from spikeloop.protocols import Rule, Substrate
from spikeloop.record import Record
from spikeloop.training.readout import HighestOutput, Readout, readout_of
from spikeloop.training.settings import Regulariser, Settings
from spikeloop.training.step import Ahead, Learned, Terms, by_rule, rightly
from spikeloop.training.straight import Straight


class Reading(Protocol):
    """How an answer is read, and the loss that trains it; `Readout` is that of a network that spikes."""

    def loss(self, record: Any, label: Tensor) -> Tensor: ...

    def decide(self, record: Any) -> Tensor: ...


class Place(Protocol):
    """What a `Course` needs of it. An answer is a `Record`, or whatever else its readout reads."""

    @property
    def readout(self) -> Reading:
        """How the answer is read."""
        ...

    @property
    def tally(self) -> Tally:
        """The slopes that the rule has seen so far."""
        ...

    def run(self, network: Any, drive: Any, *, training: bool = False, number: int = 0) -> Any:
        """The answer to a batch; number: which of all trials it is, for noise that differs from one to the next."""
        ...

    def several(self, network: Any, optimizer: torch.optim.Optimizer) -> bool:
        """Whether `learn` takes several batches at once."""
        ...

    def learn(self, network: Any, drive: Any, label: Tensor, number: int, ahead: Ahead) -> Learned:
        """Answer batches in training, as many as are given or fewer, and learn from each.

        The gradients of the loss of the last one are left in ``parameter.grad`` where they wait for the optimiser.
        """
        ...

    def sizes(self, network: Any) -> dict[str, object]:
        """What the network is made of, as far as it shall be the same when a training is resumed."""
        ...


@dataclass(frozen=True)
class SpikingPlace:
    """Of a `Network`."""

    duration: float
    readout: Readout
    substrate: Substrate
    rule: Rule | None
    regulariser: Regulariser | None = None

    @classmethod
    def of(
        cls, network: Network, data: object, settings: Settings, substrate: Substrate, rule: Rule | None
    ) -> SpikingPlace:
        duration = settings.duration if settings.duration is not None else getattr(data, "duration", None)
        if duration is None:
            raise OutOfRange("the data set does not say how long a sample runs", todo="Give Settings(duration=...)")
        readout = settings.readout or readout_of(network)
        if isinstance(readout, HighestOutput):
            raise WrongType("a readout of outputs that are no spikes", where="readout", expected="a Readout")
        return cls(duration, readout, substrate, rule, settings.regulariser)

    @cached_property
    def _terms(self) -> Terms | None:
        return Terms.of(self.readout, self.regulariser)

    @cached_property
    def _straight(self) -> Straight | None:
        return Straight.of(self.duration, self.substrate, self.rule, self._terms)

    @property
    def tally(self) -> Tally:
        return self.rule.tally if isinstance(self.rule, EventProp) else Tally()

    def run(self, network: Network, drive: Drive, *, training: bool = False, number: int = 0) -> Record:
        return run(
            network,
            drive,
            self.duration,
            substrate=self.substrate,
            rule=self.rule,
            observe=self.readout.observe,
            training=training,
            number=number,
        )

    def several(self, network: Network, optimizer: torch.optim.Optimizer) -> bool:
        return self._straight is not None and self._straight.several(network, optimizer)

    def learn(self, network: Network, drive: Drive, label: Tensor, number: int, ahead: Ahead) -> Learned:
        learned = None if self._straight is None else self._straight.learn(network, drive, label, ahead)
        if learned is not None:
            return learned
        if len(label) > ahead.size:
            assert isinstance(drive, Events)
            drive, label = drive[: ahead.size], label[: ahead.size]
        if self._terms is None or self.rule is None:
            record = self.run(network, drive, training=True, number=number)
            return self._learned(network, record, label, by_graph(self.readout, record, label, self.regulariser))
        trial, observed = carried_out(
            network, drive, self.duration, substrate=self.substrate, rule=self.rule, observe=self.readout.observe,
            number=number, training=True,
        )  # fmt: skip
        with torch.no_grad():
            record = attach(trial, observed, self.rule)
            loss, slopes = self._terms(record, label)
        by_rule(trial, observed, self.rule, slopes)
        return self._learned(network, record, label, loss)

    def _learned(self, network: Network, record: Record, label: Tensor, loss: float) -> Learned:
        spiking = (name for name, population in network.populations.items() if population.spiking and population.kind)
        spikes = sum(record.spikes[name].time.shape[0] for name in spiking)
        return Learned([Told(loss, rightly(self.readout.decide(record), label), spikes)])

    def sizes(self, network: Network) -> dict[str, object]:
        return {name: population.size for name, population in network.populations.items()}


def by_graph(readout: Reading, answer: Any, label: Tensor, regulariser: Regulariser | None) -> float:
    """The loss, whose gradients are left by torch's graph."""
    loss = readout.loss(answer, label)
    if regulariser is not None:
        loss = loss + regulariser(answer)
    loss.backward()
    return float(loss.detach())
