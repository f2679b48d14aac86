"""What is asked of a place that runs networks, and of a rule that differentiates what it observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

from torch import Tensor

from spikeloop.events import Events
from spikeloop.network import Key, Network, Standing
from spikeloop.observe import NOTHING, Every, Observe
from spikeloop.record import Record, State
from spikeloop.steps import Steps

__all__ = [
    "NOTHING", "Cotangent", "Every", "Gradients", "Key", "Observe", "Record", "Rule", "State", "Steps", "Substrate",
    "Trial",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trial:
    """What is asked for, as one value.

    network, drive (by input population), duration in seconds, observe: what to observe, start: the `State` to start
    from, number: which draw of the trial-to-trial noise, training: whether dropout was on, silent: (B, N) bool by
    population, neurons that may not spike in that sample (dropout), steps: currents by population or
    "population.compartment", standing: how the network stands (`Network.standing`) when the trial is first looked at.
    """

    network: Network
    drive: Mapping[str, Events]
    duration: float
    observe: Observe = NOTHING
    start: State | None = None
    number: int | None = None
    training: bool = False
    silent: Mapping[str, Tensor] = field(default_factory=dict)
    steps: Mapping[str, Steps] = field(default_factory=dict)

    @cached_property
    def standing(self) -> Standing:
        """See above."""
        return self.network.standing()

    @property
    def begin(self) -> float:
        """The clock at the start, seconds: all times are from there on."""
        return 0.0 if self.start is None else self.start.time

    @property
    def end(self) -> float:
        """The clock at the end."""
        return self.begin + self.duration

    @property
    def batch(self) -> int:
        """The number of samples: of the drive, or of what else says it where there is none."""
        return batch_of(self.drive, self.steps, self.start)


def batch_of(drive: Mapping[str, Events], steps: Mapping[str, Steps], start: State | None) -> int:
    """`Trial.batch` of one that is given these."""
    for events in drive.values():
        return len(events)
    given = [each.batch for each in steps.values() if each.batch is not None]
    given += [] if start is None else [len(membrane) for membrane in start.membrane.values()]
    return given[0] if given else 1


@dataclass(frozen=True, eq=False)
class Cotangent:
    """The gradient of a loss with respect to a record; what is missing is zero.

    time: (S,) for every spike of a population.  count: (B, N).  membrane: (B, T, M).  peak: (B, N).
    wants: which gradients are asked for, as keys of ``Network.quantities`` or (input population, "time").
    """

    time: Mapping[str, Tensor] = field(default_factory=dict)
    count: Mapping[str, Tensor] = field(default_factory=dict)
    membrane: Mapping[str, Tensor] = field(default_factory=dict)
    peak: Mapping[str, Tensor] = field(default_factory=dict)
    wants: frozenset[Key] = frozenset()


Gradients = Mapping[Key, Tensor]
"""By key: shaped like ``Network.quantities()[key]``; for (input population, "time") like that drive's times, (S,)."""


@runtime_checkable
class Substrate(Protocol):
    """A place that runs networks: a simulator, the twin of a chip, a chip.

    One whose offers depend on nothing but the network, and that never becomes another one itself, may say so by an
    attribute ``steady = True``. What is asked of it without times (peaks, the state) is then compared with its offers
    once, and not again in every run of a network that stands as it did.
    """

    def offers(self, network: Network) -> Observe:
        """All that can be observed of ``network`` here."""
        ...

    def run(self, trial: Trial) -> Record:
        """Carry out ``trial``; the record's tensors carry no graph."""
        ...


@runtime_checkable
class Rule(Protocol):
    """A way to differentiate a record, from the record alone."""

    @property
    def accepts(self) -> frozenset[str]:
        """Which cotangents it can use, of "time", "count", "membrane", "peak"."""
        ...

    def needs(self, network: Network) -> Observe:
        """What it must see besides spikes."""
        ...

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Gradients:
        """The gradients of ``sum(cotangent * record)``; only what ``cotangent.wants`` is computed."""
        ...
