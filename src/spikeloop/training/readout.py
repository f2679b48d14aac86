"""How a class is read from a record, and the loss that trains it: the two must agree, so they are one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikeloop._attach import Output
from spikeloop.engine.step import Loss
from spikeloop.errors import InvalidNetwork
from spikeloop.loss import (
    STEEPEST,
    cross_entropy_slopes,
    first_spike_class,
    first_spike_cross_entropy,
    first_spike_slopes,
    max_over_time_cross_entropy,
)
from spikeloop.network import Network
from spikeloop.protocols import NOTHING, Observe
from spikeloop.record import Record

Derivatives = tuple[float, Mapping[Output, Tensor]]
"""A loss, and its derivatives by what was observed."""


class Readout(Protocol):
    """What `fit` and `evaluate` need to know about the answer of a network."""

    @property
    def observe(self) -> Observe:
        """What must be observed besides the spikes."""
        ...

    def loss(self, record: Record, label: Tensor) -> Tensor:
        """The mean loss over the batch, a scalar; label (B,) int64."""
        ...

    def decide(self, record: Record) -> Tensor:
        """(B,) int64: the class of every sample, -1 where the network says nothing."""
        ...


@dataclass(frozen=True)
class FirstSpike:
    """The unit that spikes first names the class: -log softmax(-t / tau0)[label] + alpha (exp(t_label / tau1) - 1).

    Times in seconds. Wunderlich and Pehle 2021 (arXiv 2009.08378), whose values are the defaults.
    """

    population: str = "output"
    tau0: float = 0.5e-3
    tau1: float = 6.4e-3
    alpha: float = 3e-3

    @property
    def observe(self) -> Observe:
        return NOTHING

    def loss(self, record: Record, label: Tensor) -> Tensor:
        spikes = record.spikes[self.population]
        return first_spike_cross_entropy(spikes, label, tau0=self.tau0, tau1=self.tau1, alpha=self.alpha)

    def derivatives(self, record: Record, label: Tensor) -> Derivatives:
        """The loss, and its derivatives by the spike times and, for labels whose unit is silent, by the counts."""
        spikes = record.spikes[self.population]
        value, by_time, by_count = first_spike_slopes(spikes, label, self.tau0, self.tau1, self.alpha)
        found: dict[Output, Tensor] = {("time", self.population): torch.from_numpy(by_time)}
        if by_count is not None:
            found["count", self.population] = torch.from_numpy(by_count)
        return value, found

    @property
    def native(self) -> Loss:
        """The loss, as far as no label's unit is silent, for a step in one call."""
        return self.tau0, self.tau1, self.alpha, STEEPEST

    def decide(self, record: Record) -> Tensor:
        return first_spike_class(record.spikes[self.population])


@dataclass(frozen=True)
class MaxOverTime:
    """The unit whose membrane peaks highest names the class: -log softmax(scale max_t V)[label]. V in thresholds."""

    population: str = "output"
    scale: float = 10.0

    @property
    def observe(self) -> Observe:
        return Observe(peak={self.population})

    def loss(self, record: Record, label: Tensor) -> Tensor:
        return max_over_time_cross_entropy(record.peak[self.population], label, self.scale)

    def derivatives(self, record: Record, label: Tensor) -> Derivatives:
        """The loss, and its derivatives by the peaks."""
        value, slope = cross_entropy_slopes(record.peak[self.population].value, label, self.scale)
        return value, {("peak", self.population): torch.from_numpy(slope)}

    @property
    def native(self) -> Loss:
        """The loss, for a step in one call."""
        return self.scale

    def decide(self, record: Record) -> Tensor:
        value = record.peak[self.population].value
        if not value.is_cpu or value.dtype not in (torch.float32, torch.float64):
            return value.argmax(1)
        return torch.from_numpy(value.numpy(force=True).argmax(1))  # torch's takes long between calls of the engine


@dataclass(frozen=True)
class HighestOutput:
    """The largest output of a network that does not spike names the class: -log softmax(outputs)[label].

    smoothing: share of the label that is spread evenly over all classes (Szegedy et al., 1512.00567).
    """

    smoothing: float = 0.0

    def loss(self, record: Tensor, label: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(record, label, label_smoothing=self.smoothing)

    def decide(self, record: Tensor) -> Tensor:
        return record.argmax(1)


def readout_of(network: Network) -> Readout:
    """The natural readout of the last population: first spike where it spikes, highest peak where it does not."""
    name, last = list(network.populations.items())[-1]
    if last.kind is not None:
        return FirstSpike(name) if last.spiking else MaxOverTime(name)
    raise InvalidNetwork("the last population is an input: it answers nothing", where=name, todo="Give a readout")
