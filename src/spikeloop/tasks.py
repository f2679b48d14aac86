"""The tasks that the command line knows: data, network and settings under one name, with values that work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from spikeloop.build import feedforward
from spikeloop.chip.configuration import CADC_PERIOD_MIN, CYCLE
from spikeloop.chip.twin import Twin
from spikeloop.data.dataset import ImageEvents
from spikeloop.data.images import rotate
from spikeloop.data.mnist import MNIST, FashionMNIST
from spikeloop.data.yin_yang import YinYang
from spikeloop.errors import OutOfRange
from spikeloop.gradient.eventprop import EventProp
from spikeloop.gradient.surrogate import SuperSpike
from spikeloop.initial import Normal
from spikeloop.network import Network
from spikeloop.neuron import LI, LIF, psp_peak
from spikeloop.protocols import Rule, Substrate
from spikeloop.substrate.ideal import Ideal
from spikeloop.substrate.onchip import OnChip
from spikeloop.training import Adam, Cosine, FirstSpike, LiftSilent, MaxOverTime, Settings, SpikePenalty

Split = Literal["train", "validation", "test"]
RuleName = Literal["eventprop", "surrogate"]
NeuronsName = Literal["published", "slow", "fast"]
SubstrateName = Literal["ideal", "twin"]
TAU_MEM, TAU_SYN = 20e-3, 5e-3
TIMES: dict[NeuronsName, dict[str, float]] = {
    "published": {"tau_mem": TAU_MEM, "tau_syn": TAU_SYN},
    "slow": {"tau_mem": 40e-3, "tau_syn": 20e-3},
    "fast": {"tau_mem": 10e-3, "tau_syn": 5e-3},
}
SLOW_REFRACTORY = 30e-3  # no input comes later: one spike a neuron
SPEEDUP = 1000.0
SAMPLING_PERIOD = CADC_PERIOD_MIN * CYCLE * SPEEDUP
LOOPED_BETA = 20.0


@dataclass(frozen=True)
class Where:
    """Where a task's network runs, and what that asks of the rule and of the neurons."""

    inputs_take: ClassVar[int] = 1

    substrate: SubstrateName = "ideal"
    """The numbers as written, or the twin of a chip: then training is in the loop."""
    chip: int = 0
    """Which chip the twin is of."""
    rows_per_input: int | None = None
    """Row pairs of the chip that each input line takes. None: yin-yang 5, others 1."""
    slope_floor: float | None = None
    """What eventprop takes slopes at spikes to be at least. None: 0, on a twin 0.3."""
    rule: RuleName = "eventprop"
    """Exact gradients, or surrogate gradients on a time grid."""
    neurons: NeuronsName | None = None
    """Time constants. None: as published; on a twin slow ones with a spike a neuron, for surrogate gradients fast."""

    @property
    def looped(self) -> bool:
        """Whether it runs on a chip."""
        return self.substrate == "twin"

    @property
    def floor(self) -> float:
        """A chip's spikes disagree with the model's slopes, by which gradients are divided."""
        return self.slope_floor if self.slope_floor is not None else 0.3 if self.looped else 0.0

    @property
    def kind(self) -> NeuronsName:
        """Where membranes climb through the threshold, and do not graze it, a noisy threshold only shifts spikes.

        That serves a rule which sees spikes move, but not come and go. Surrogate gradients see that, and learn from
        membranes that are not held at reset.
        """
        if self.neurons is not None:
            return self.neurons
        return "published" if not self.looped else "slow" if self.rule == "eventprop" else "fast"

    @property
    def slow(self) -> bool:
        """Whether neurons are slow, and spike once."""
        return self.kind == "slow"

    @property
    def times(self) -> dict[str, float]:
        """Time constants of all neurons, in seconds."""
        return TIMES[self.kind]

    @property
    def refractory(self) -> float:
        """Of the neurons that spike, in seconds."""
        return SLOW_REFRACTORY if self.slow else 0.0


@dataclass(frozen=True)
class YinYangTask(Where):
    """Which part of a Yin-Yang symbol a point lies in, told by the first spike (Wunderlich and Pehle 2021).

    Network and loss are the published ones; the batch, the optimiser's memory and the schedule are ours. Published:
    batches of 32, a learning rate of 5e-3 that falls by 5 % an epoch, Adam.
    """

    name: ClassVar[str] = "yin-yang"
    inputs: ClassVar[int] = 5
    classes: ClassVar[int] = 3
    duration: ClassVar[float] = 60e-3
    grid: ClassVar[float] = 0.5e-3
    inputs_take: ClassVar[int] = 5

    hidden: tuple[int, ...] = (200,)
    """Neurons of each hidden layer."""
    rule: RuleName = "eventprop"
    """Exact gradients of spike times, or surrogate gradients: then the highest membrane tells instead."""
    epochs: int = 100
    batch_size: int = 100
    learning_rate: float | None = None
    """None: 1e-2, with surrogate gradients in software 5e-3."""

    def data(self, split: Split) -> YinYang:
        """5000 points to learn from, 1000 each to validate and to test."""
        return YinYang(split)

    def network(self, seed: int) -> Network:
        """Amplitudes as published for 5-200-3; deeper layers keep the sum of their inputs."""
        sizes = [self.inputs, *self.hidden, self.classes]
        peak = psp_peak(TAU_MEM, TAU_SYN)
        first, later = ((2.0, 2.0), (0.3, 0.5)) if self.slow else ((1.5, 0.78), (0.93, 0.1))
        weights = [Normal(first[0] * peak, first[1] * peak)]
        weights += [_scaled(later[0] * peak, later[1] * peak, size / 200) for size in self.hidden]
        readout = None
        if self.rule == "surrogate":  # it has no gradient of spike times
            readout, weights[-1] = LI(**self.times), _scaled(0.0, 0.2 * peak, self.hidden[-1] / 200)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            spiking = LIF(**self.times, refractory=self.refractory)
            return feedforward(sizes, spiking, readout=readout, weight=weights)

    def settings(self, seed: int) -> Settings:
        exact = self.rule == "eventprop"
        return Settings(
            duration=self.duration,
            readout=FirstSpike() if exact else MaxOverTime(),
            regulariser=None if exact else SpikePenalty(_layers(self.hidden)),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate or (1e-2 if exact or self.looped else 5e-3),
            optimizer=Adam(beta2=0.95) if exact and not self.slow else Adam(),  # a short memory is for heavy tails
            schedule=Cosine(),
            seed=seed,
        )


@dataclass(frozen=True)
class MNISTTask(Where):
    """Handwritten digits as spike latencies, told by the highest membrane of non-spiking outputs."""

    name: ClassVar[str] = "mnist"
    source: ClassVar[type[MNIST] | type[FashionMNIST]] = MNIST
    classes: ClassVar[int] = 10
    duration: ClassVar[float] = 30e-3
    grid: ClassVar[float] = 1e-3

    hidden: tuple[int, ...] = (350,)
    """Neurons of each hidden layer."""
    size: Literal[28, 16] = 28
    """Pixels along each side."""
    rotation: float = 0.0
    """Training images are turned by up to so many degrees."""
    dropout: float = 0.15
    """Share of the input units that are silenced, anew for each sample of the training."""
    epochs: int = 12
    batch_size: int = 100
    learning_rate: float | None = None
    """None: 5e-3 for 28 x 28 pixels, 1e-2 for 16 x 16, of which fewer are active."""

    def data(self, split: Split) -> ImageEvents:
        """55000 images to learn from, 5000 to validate, 10000 to test."""
        turned = split == "train" and self.rotation > 0
        return self.source(split, self.size, augment=self._turn if turned else None)

    def _turn(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        return rotate(images, self.rotation, generator)

    def network(self, seed: int) -> Network:
        """Amplitudes of which the first hidden layer spikes.

        Where there are more layers its neurons must differ, or all that the next one hears is how many there are: there
        the spread is larger.
        """
        sizes, peak = [self.size**2, *self.hidden, self.classes], psp_peak(TAU_MEM, TAU_SYN)
        mean, spread = (0.03, 0.1) if self.size == 28 else (0.08, 0.15)
        layers = len(self.hidden)
        if layers > 1:
            mean, spread = mean + 0.01, spread + 0.2
        weights = [Normal(mean * peak, spread * peak)]
        weights += [_scaled(0.02 * peak, 0.4 * peak, before / 350) for before in self.hidden[:-1]]
        weights += [_scaled(0.0, 0.2 * peak, self.hidden[-1] / 350)]
        dropout = [self.dropout, *(0.0 for _ in self.hidden), 0.0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            spiking, readout = LIF(**self.times, refractory=self.refractory), LI(**self.times)
            return feedforward(sizes, spiking, readout=readout, weight=weights, dropout=dropout)

    def settings(self, seed: int) -> Settings:
        layers = _layers(self.hidden)
        lift = LiftSilent(layers, strength=1.0 if len(layers) == 1 else 0.1)
        return Settings(
            duration=self.duration,
            readout=MaxOverTime(),
            regulariser=lift if self.rule == "eventprop" else SpikePenalty(layers),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate or (5e-3 if self.size == 28 else 1e-2),
            optimizer=Adam(beta2=0.95),
            schedule=Cosine(),
            seed=seed,
        )


@dataclass(frozen=True)
class FashionMNISTTask(MNISTTask):
    """Pictures of clothes, in every other respect like mnist."""

    name: ClassVar[str] = "fashion-mnist"
    source: ClassVar[type[MNIST] | type[FashionMNIST]] = FashionMNIST


Task = YinYangTask | MNISTTask


def rule_of(task: Task) -> Rule:
    """What the task's network is differentiated with; surrogates see the membranes that the substrate lets them see."""
    if task.rule == "eventprop":
        return EventProp(slope_floor=task.floor)
    return SuperSpike(SAMPLING_PERIOD, beta=LOOPED_BETA) if task.looped else SuperSpike(task.grid, replay=True)


def substrate_of(task: Task) -> Substrate:
    """Where the task's network runs."""
    if not task.looped:
        return Ideal()
    rows = task.inputs_take if task.rows_per_input is None else task.rows_per_input
    return OnChip(Twin(task.chip), SPEEDUP, rows)


def task_of(name: str, options: dict[str, Any]) -> Task:
    """The task of that name with options as `dataclasses.asdict` gives them, lists instead of tuples included."""
    for kind in (YinYangTask, MNISTTask, FashionMNISTTask):
        if kind.name == name:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            return kind(**given)
    raise OutOfRange(f"no task {name!r}", expected="yin-yang, mnist or fashion-mnist")


def _layers(hidden: tuple[int, ...]) -> tuple[str, ...]:
    """What `feedforward` calls them."""
    return ("hidden",) if len(hidden) == 1 else tuple(f"hidden{i + 1}" for i in range(len(hidden)))


def _scaled(mean: float, std: float, fan_in: float) -> Normal:
    """Amplitudes whose sum over the inputs does not depend on their number; `fan_in` relative to the published one."""
    share = max(fan_in, 1e-9)  # a layer of size 0 is refused by Population
    return Normal(mean / share, std / math.sqrt(share))
