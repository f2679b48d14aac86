"""What the engine is handed: a network as arrays, stage by stage, and what is asked of each population.

What every run makes anew is not frozen: frozen classes take several times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Weights = NDArray[np.floating[Any]]
Trains = tuple[Float, NDArray[np.int32], NDArray[np.int64]]
"""Spike trains of a batch: time (S,), unit (S,), start (B + 1,)."""

FIELDS = ("tau_mem", "tau_syn", "threshold", "leak", "reset", "refractory")
"""The rows of `Neurons.values`."""


class Delays(IntEnum):
    """What has a delay of its own; the numbers are the native engine's."""

    COMMON = 0
    PER_UNIT = 1
    PER_SYNAPSE = 2


@dataclass(frozen=True, eq=False)
class Neurons:
    """A population: ``values`` is (6, N) float64, rows as in `FIELDS`."""

    name: str
    values: Float
    spiking: bool

    @property
    def size(self) -> int:
        """N."""
        return self.values.shape[1]


@dataclass(frozen=True, eq=False)
class Rows:
    """Synapses sorted by presynaptic unit: row u is ``begin[u]:begin[u + 1]``.

    target: (K,) int32.  weight: (K,) int64, which weight; None: one each, in this order.
    synapse: (K,) int64, each one's place in the projection's own list; None: the same order.
    """

    begin: NDArray[np.int64]
    target: NDArray[np.int32]
    weight: NDArray[np.int64] | None
    synapse: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Recovery:
    """Short-term plasticity of each source unit, (S,) each: the fraction that an event uses and seconds of recovery;
    an event that meets x has the size base + slope x, and never a negative one.
    """

    utilisation: Float
    tau: Float
    base: Float
    slope: Float

    @classmethod
    def of(cls, utilisation: Float, tau: Float, facilitating: bool) -> Recovery:
        """That of the model: sizes U x, or 1 - (1 - U) x where it facilitates."""
        if facilitating:
            return cls(utilisation, tau, np.ones_like(utilisation), utilisation - 1)
        return cls(utilisation, tau, np.zeros_like(utilisation), utilisation)

    def arrays(self) -> tuple[Float, Float, Float, Float]:
        """As the native engine takes them."""
        return self.utilisation, self.tau, self.base, self.slope


@dataclass(frozen=True, eq=False)
class Recovered:
    """Where it ended: x after the latest event of each sample and unit (B, S) and when that was, -inf where there was
    none; size: of the events that are still on their way.
    """

    x: Float
    last: Float
    size: Float


@dataclass(frozen=True, eq=False)
class Link:
    """A projection: dense weights (N_source, N_target) without ``rows``, or a flat list of weights with them.

    delay: (1,), (N_source,) or, in the order of the rows, (K,).
    """

    name: str
    source: str
    target: str
    weight: Weights
    rows: Rows | None
    delay: Float
    delays: Delays
    short_term: Recovery | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """Populations that run together: one that only listens to earlier stages, or several in a loop.

    dense: a single population with dense links from earlier stages and at most one delay per unit.
    """

    populations: tuple[Neurons, ...]
    links: tuple[Link, ...]
    dense: bool
    dtype: np.dtype[np.floating[Any]]


@dataclass(eq=False, slots=True)
class Sampling:
    """Membrane samples: time (1, T) or (B, T), unit (M,) int32, value (B, T, M): samples, or their cotangent."""

    time: Float
    unit: NDArray[np.int32]
    value: Float


@dataclass(eq=False, slots=True)
class Peaks:
    """Highest membranes: time and value (B, N); in an adjoint, value is the cotangent."""

    time: Float
    value: Float


@dataclass(frozen=True, eq=False)
class States:
    """Membrane, current and remaining hold of every neuron, (B, N) each."""

    membrane: Float
    current: Float
    held: Float

    def fields(self) -> tuple[Float, Float, Float]:
        """All three."""
        return self.membrane, self.current, self.held


@dataclass(frozen=True, eq=False)
class Anchors:
    """Where neurons were when something last happened to them, (B, N) each: when, v = V - leak, I, when V is free."""

    time: Float
    membrane: Float
    current: Float
    free: Float

    def fields(self) -> tuple[Float, Float, Float, Float]:
        """All four."""
        return self.time, self.membrane, self.current, self.free


@dataclass(eq=False, slots=True)
class Ask:
    """What is asked of one population; the engine fills ``end``, ``reached``, ``sampling``, ``peaks``, and adds to
    ``count`` (B, N).

    silent: (B, N) uint8, neurons that may not spike.  start: the state at the beginning, anchors: an earlier one of the
    same course, from which it is continued rather than from there.
    """

    silent: NDArray[np.uint8] | None = None
    start: States | None = None
    end: States | None = None
    anchors: Anchors | None = None
    reached: Anchors | None = None
    sampling: Sampling | None = None
    peaks: Peaks | None = None
    count: NDArray[np.float32] | None = None


@dataclass(eq=False, slots=True)
class Pull:
    """What a loss says of one population: dL/dt of its spikes (S,), cotangents of its membrane samples and peaks."""

    time: Float | None = None
    sampling: Sampling | None = None
    peaks: Peaks | None = None
    start: States | None = None


@dataclass(eq=False, slots=True)
class Slopes:
    """How many spikes an adjoint passed, and at how many of them the slope floor acted."""

    spikes: int = 0
    floored: int = 0


@dataclass(eq=False, slots=True)
class Run:
    """How a trial is carried out, from ``begin`` on: recent spikes, of before, are still on their way then.
    recovered: by short-term link, where the run before ended.  at_spikes: by population, the spikes that this very run
    made and the currents (S,) at them, with the weights of then: what a forward pass in float32 leaves for its adjoint.
    """

    batch: int
    duration: float
    threads: int
    recent: dict[str, Trains] = field(default_factory=dict[str, Trains])
    begin: float = 0.0
    until: float | None = None
    recovered: dict[str, Recovered] = field(default_factory=dict[str, Recovered])
    at_spikes: dict[str, tuple[Trains, NDArray[np.float32]]] = field(
        default_factory=dict[str, tuple[Trains, NDArray[np.float32]]]
    )

    @property
    def end(self) -> float:
        """s; where ``until`` says so, else after ``duration``."""
        return self.begin + self.duration if self.until is None else self.until
