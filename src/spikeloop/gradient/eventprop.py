"""EventProp: exact gradients of spike times and membranes, from the record alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from spikeloop._ragged import array_of
from spikeloop.engine.adjoint import Backward, Key
from spikeloop.engine.arrays import Float, Peaks, Pull, Sampling, Slopes, Stage, Trains
from spikeloop.engine.arriving import nothing
from spikeloop.engine.plan import on_a_grid, plan
from spikeloop.engine.trial import run_of, stages_of, start_of, trains_of
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.gradient.clock import without_currents
from spikeloop.gradient.count import add_count_gradients
from spikeloop.network import Network
from spikeloop.protocols import NOTHING, Cotangent, Gradients, Observe, Trial
from spikeloop.record import Record

_EXACT = frozenset({"time", "membrane", "peak"})
_WITH_COUNT = _EXACT | {"count"}


@dataclass
class Tally:
    """How many spikes the rule has differentiated, and at how many of them its slope floor acted."""

    spikes: int = 0
    floored: int = 0

    @property
    def fraction(self) -> float:
        """floored / spikes."""
        return self.floored / max(self.spikes, 1)

    def add(self, slopes: Slopes) -> None:
        """Those of one more pass."""
        self.spikes += slopes.spikes
        self.floored += slopes.floored

    def reset(self) -> None:
        """Start counting again."""
        self.spikes = self.floored = 0


@dataclass(frozen=True)
class EventProp:
    r"""Exact gradients of any loss of spike times, membrane samples and peaks (Wunderlich & Pehle 2021, with delays,
    refractory periods, all neuron parameters and recurrence).

    At a spike :math:`t_k` of a neuron, with :math:`\dot V^-` its slope there,

    .. math:: \lambda_V(t_k^-) = \frac{1}{\tau_m \dot V^-} \frac{dL}{dt_k},

    between spikes the adjoints flow back as :math:`\tau_m \lambda_V' = -\lambda_V`,
    :math:`\tau_s \lambda_I' = -\lambda_I + \lambda_V`, and :math:`dL/dw = -\tau_s \lambda_I` at arrivals. It uses the
    observed spikes whoever made them; currents are modelled. A state that a run starts from is given: V, I and what is
    left of a hold are numbers there, so a neuron that is held when the run begins owes nothing of that to ``reset`` and
    ``refractory``, and gradients are the differences of this run alone.

    slope_floor: :math:`\tau_m \dot V^-` (potential units) is taken to be at least this; gradients have heavy tails
    where membranes graze the threshold. 0, exact, suits `Ideal`. A slope that is not positive, where recording and
    model disagree, passes nothing on unless there is a floor. ``tally`` counts how often the floor acted.

    count_gradient: exact gradients cannot create or remove spikes, so a loss of ``record.count`` gets a
    pseudo-gradient. A neuron that keeps what its synapses bring spikes once per :math:`\tau_m (\vartheta - V_r)` of
    charge, and an arrival brings :math:`w \tau_s`:

    .. math:: n_m \approx \frac{\tau_s}{\tau_m (\vartheta - V_r)} \sum_i w_{im} n_i

    This is differentiated by the weights, and by the counts :math:`n_i` of populations of earlier stages (a loop is
    not unrolled). False: a loss of the count is an error.
    """

    slope_floor: float = 0.0
    count_gradient: bool = True
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.slope_floor < float("inf"):
            raise OutOfRange(f"slope_floor is {self.slope_floor}", where="EventProp", expected="a number of at least 0")

    @property
    def accepts(self) -> frozenset[str]:
        """Spike times, membrane samples, peaks and, with the pseudo-gradient, counts."""
        return _WITH_COUNT if self.count_gradient else _EXACT

    def needs(self, network: Network) -> Observe:
        """Spikes are enough. Raises ``Unsupported`` where a population has no exact solution between them."""
        _refuse(network)
        return NOTHING

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Gradients:
        """The gradients of ``sum(cotangent * record)`` that ``cotangent.wants`` names."""
        without_currents(trial, "EventProp")
        _refuse(trial.network)
        if trial.start is not None and trial.start.opaque:
            raise Unsupported("the run goes on from a chip's state, which shows no membranes", where="start",
                              expected="a run from rest, or from a state of Ideal",
                              todo="Use SuperSpike(dt), which observes membranes")  # fmt: skip
        run = run_of(trial)
        if record.executed:  # with other weights: what a run with the network's own kept is of no use
            planned, run = plan(trial.network, record.executed), replace(run, at_spikes={})
        else:
            planned = stages_of(trial)
        stages = [stage for stage in planned if isinstance(stage, Stage)]
        trains, pulls = _observed(trial, record), _pulls(trial, record, cotangent)
        back = Backward(stages, trains, run, pulls, cotangent.wants, self.slope_floor)
        back()
        self.tally.add(back.slopes)
        gradients = _shaped(trial.network, back.gradients)
        add_count_gradients(gradients, stages, trial.network, record.spikes, cotangent.count, cotangent.wants)
        return gradients


def _refuse(network: Network) -> None:
    for name in on_a_grid(network):
        raise Unsupported(
            f"EventProp has no gradient of {network.populations[name].kind_name} neurons",
            where=f"population {name!r}",
            expected="LIF and LI populations",
            todo="Use SuperSpike(dt)",
        )


def _observed(trial: Trial, record: Record) -> dict[str, Trains]:
    """The spike trains of every population; none where a population does not spike."""
    trains: dict[str, Trains] = {}
    for name, population in trial.network.populations.items():
        spikes = record.spikes[name] if name in record.spikes else trial.drive.get(name)
        if spikes is not None:
            trains[name] = trains_of(spikes)
        elif population.spiking:
            raise Unsupported(
                "EventProp needs the spikes of every population",
                where=f"population {name!r}",
                expected="them in the record",
            )
        else:
            trains[name] = nothing(trial.batch)
    return trains


def _pulls(trial: Trial, record: Record, cotangent: Cotangent) -> dict[str, Pull]:
    """What the loss and the start say of the populations of which they say anything."""
    start = () if trial.start is None else trial.start.membrane
    names = {*cotangent.time, *cotangent.membrane, *cotangent.peak, *start}
    return {name: _pull(trial, record, cotangent, name) for name in names}


def _pull(trial: Trial, record: Record, cotangent: Cotangent, name: str) -> Pull:
    time = sampling = peaks = None
    if name in cotangent.time:
        time = _float64(cotangent.time[name])
    if name in cotangent.membrane:
        samples = record.membrane[name]
        sampling = Sampling(
            np.atleast_2d(_float64(samples.time)),
            samples.unit.to(torch.int32).numpy(),
            _float64(cotangent.membrane[name]),
        )
    if name in cotangent.peak:
        peaks = Peaks(_float64(record.peak[name].time), _float64(cotangent.peak[name]))
    return Pull(time, sampling, peaks, start_of(trial, name))


def _float64(tensor: Tensor) -> Float:
    return np.ascontiguousarray(array_of(tensor), np.float64)


def _shaped(network: Network, found: Mapping[Key, np.ndarray]) -> dict[Key, Tensor]:
    """Gradients in the shapes of the network's quantities: shared values get the sum."""
    gradients: dict[Key, Tensor] = {}
    for (owner, what), value in found.items():
        gradient = torch.from_numpy(value)
        if owner in network.projections._modules:
            if value.ndim == 1:  # a dense weight has its shape already
                projection = network.projections[owner]
                gradient = gradient.reshape((projection.weight if what == "weight" else projection.delay).shape)
        elif what != "time" and getattr(network.populations[owner], what).ndim == 0:
            gradient = gradient.sum()
        gradients[owner, what] = gradient
    return gradients
