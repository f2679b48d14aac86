"""SuperSpike: surrogate gradients on a time grid, from observed spikes and observed or replayed membranes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spikeloop.engine.arrays import Link, Neurons, Run, Stage, States, Trains
from spikeloop.engine.arriving import coming
from spikeloop.engine.plan import plan
from spikeloop.engine.short_term_grid import Draws
from spikeloop.engine.stepped import SteppedStage
from spikeloop.engine.trial import run_of, start_of, trains_of
from spikeloop.errors import CannotObserve, OutOfRange, Unsupported
from spikeloop.gradient.clock import from_zero, without_currents
from spikeloop.gradient.grid import Bundle, Cells, Grid, bundles
from spikeloop.gradient.holds import steps
from spikeloop.gradient.parts import part
from spikeloop.gradient.sweep import Layer, ThroughLayers, replay, sweep
from spikeloop.gradient.through_steps import Observed, ThroughSteps, fields_in_steps, in_steps
from spikeloop.network import Key, Network
from spikeloop.protocols import NOTHING, Cotangent, Every, Gradients, Observe, Trial
from spikeloop.record import Record, Samples

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_ROOM = 1 << 21  # values per time grid of a population: so many samples at a time that they fit into caches
_TINY = 1e-6  # of a step: a sample that rounding put this little after a grid time was taken then


@dataclass(frozen=True)
class SuperSpike:
    r"""Surrogate gradients of weights on a time grid (Zenke & Ganguli 2018; in the loop: Cramer et al. 2022).

    Time is cut into steps of ``dt`` seconds. A spike in step :math:`k` is taken for a function of the membrane at the
    beginning of the step, of which the value is what was observed and the derivative is

    .. math:: \frac{\partial S_k}{\partial V_k} = \frac{1}{u} \frac{1}{(1 + \beta |V_k - \vartheta| / u)^2},
        \qquad u = \vartheta - V_r,

    with the distance from reset to threshold as the unit of potential. Between the grid times everything is linear and
    exact, with :math:`v = V - V_{leak}` and the propagators of `LIF` over one step:
    :math:`v_{k+1} = a v_k + g I_k + \dots,\ I_{k+1} = b I_k + \dots`, and an observed spike adds to both what it has
    brought by the end of the step it arrives in, at its own time and after its delay; only the derivative above takes
    spikes to be in the middle of their step. The sweep goes back through all stages, and through time in loops.
    From a spike until its release (``refractory``) the membrane is at reset and passes nothing on: the reset itself is
    not differentiated.

    beta: how narrow the surrogate is.  dt: also the sampling period that is asked for. Gradients through spikes grow as
    1 / dt, since more steps lie near the threshold.

    replay=False: membranes are observed, so all spiking populations are sampled every ``dt``. The grid of each trial
    begins where its samples do (a chip has a phase per run); each step takes the latest sample up to its beginning.
    replay=True: nothing need be observed; membranes are computed from the observed spikes and the model's parameters
    (exactly, on an ideal substrate).

    Stages that are run in steps (`AdEx`, `Compartments`) are run anew from the observed spikes, in steps of ``dt``,
    and differentiated by all their numbers: weights, time constants, refractory times, thresholds, ``a``, ``b``,
    reversals, couplings, ... There the membrane begins the step of a spike at reset, which gives the reset a gradient.
    ``dt`` may be no larger than a fifth of their shortest time constant. A state that a trial starts from is given,
    with the resources of short-term plastic synapses and the sizes of events on their way.

    Losses of counts, membrane samples and peaks: what falls between two grid times goes to both, linearly. Losses of
    spike times are not accepted: on a grid a spike has none. Of LIF and LI in stages of their own there are gradients
    of weights alone, the others are ``Unsupported``.
    Neurons that a trial silences (dropout) pass nothing on.
    """

    dt: float
    beta: float = 10.0
    replay: bool = False

    def __post_init__(self) -> None:
        for name, value, unit in (("dt", self.dt, "seconds"), ("beta", self.beta, "a number")):
            if not 0 < value < math.inf:
                raise OutOfRange(f"{name} is {value}", where="SuperSpike", expected=f"{unit}, above zero")

    @property
    def accepts(self) -> frozenset[str]:
        """Counts, membrane samples and peaks."""
        return frozenset({"count", "membrane", "peak"})

    def needs(self, network: Network) -> Observe:
        """The membranes of spiking LIF populations every ``dt``; with ``replay``, spikes alone."""
        if self.replay:
            return NOTHING
        return Observe({name: Every(self.dt) for name in _looked_at(network)})

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Gradients:
        """The gradients of ``sum(cotangent * record)`` that ``cotangent.wants`` names."""
        if self.replay:
            without_currents(trial, "SuperSpike(replay=True)")
        self._check(trial, cotangent)
        trial, record = from_zero(trial, record)
        batch = trial.batch
        width = max(population.size for population in trial.network.populations.values())
        few = max(round(_ROOM * self.dt / (trial.duration * width)), 1)
        total: dict[Key, Tensor] = {}
        for first in range(0, max(batch, 1), few):
            some = slice(first, min(first + few, batch))
            for key, gradient in self._part(*part(trial, record, cotangent, some)).items():
                total[key] = total[key] + gradient if key in total else gradient
        return total

    def _part(self, trial: Trial, record: Record, cotangent: Cotangent) -> dict[Key, Tensor]:
        run = run_of(trial)
        grid = Grid.over(trial.duration, self.dt, self._origin(trial, record, run.batch))
        trains, planned = _observed(trial, record), plan(trial.network, record.executed)
        heard = {name: coming(name, trains, run.recent) for name in trains}
        look = _Look(grid, trial, record, trains, heard, run)
        seen = Observed(trial, record, cotangent, trains, heard, run)
        stages = [
            ThroughSteps(stage, grid, self.beta, run.threads, seen)
            if isinstance(stage, SteppedStage)
            else self._through(look, stage, cotangent)
            for stage in planned
        ]
        sweep(stages, {name: _push(grid, count) for name, count in cotangent.count.items()})
        projections = trial.network.projections
        return {
            (owner, what): gradient.reshape(projections[owner].weight.shape) if what == "weight" else gradient
            for stage in stages
            for (owner, what), gradient in stage.gradients.items()
        }

    def _through(self, look: _Look, stage: Stage, cotangent: Cotangent) -> ThroughLayers:
        layers = [self._layer(look, stage, neurons) for neurons in stage.populations]
        mine = [link for link in stage.links if (link.name, "weight") in cotangent.wants]
        return ThroughLayers(
            look.grid,
            layers,
            look.coming,
            {layer.cells.name: _pull(look.grid, look.record, cotangent, layer.cells) for layer in layers},
            {(link.name, "weight"): torch.zeros_like(torch.from_numpy(link.weight)).flatten() for link in mine},
        )

    def _check(self, trial: Trial, cotangent: Cotangent) -> None:
        fields = fields_in_steps(trial.network)
        for owner, what in sorted(cotangent.wants):
            if what != "weight" and (owner, what) not in fields:
                raise Unsupported(
                    f"SuperSpike has no gradient of {what}",
                    where=owner,
                    expected="gradients of weights, and of all numbers of AdEx and compartments",
                    todo="Use requires_grad_(False) on it, or EventProp",
                )
        if self.dt > trial.duration * (1 + _TINY):
            raise OutOfRange(
                f"dt is {self.dt:g} s", where="SuperSpike", expected=f"at most {trial.duration:g} s, a run"
            )

    def _origin(self, trial: Trial, record: Record, batch: int) -> Tensor:
        """(B,): where the grid begins, so that the samples lie on it."""
        zero = torch.zeros(batch, dtype=torch.float64)
        if self.replay:
            return zero
        for name in _looked_at(trial.network):
            time = record.membrane[name].time if name in record.membrane else zero[:0]
            if time.shape[-1]:
                phase = time[..., 0].detach().to(torch.float64) / self.dt
                return (zero + (phase - torch.ceil(phase - _TINY)) * self.dt).clamp_max(0.0)
        return zero

    def _layer(self, look: _Look, stage: Stage, neurons: Neurons) -> Layer:
        name, cells = neurons.name, Cells.of(neurons, _DTYPES[stage.dtype.name])
        start = start_of(look.trial, name)
        moves = steps(look.grid, cells, look.spikes[name], start)
        incoming = look.bundles(stage, cells)
        if not neurons.spiking:
            return Layer(cells, moves, incoming, None)
        if self.replay:
            membrane = replay(look.grid, cells, moves, [(b, look.coming[b.source]) for b in incoming], start)
        else:
            membrane = _sampled(look.grid, _from_start(look.record, name, start), cells)
        slope = self._slope(cells, membrane)
        if name in look.trial.silent:
            slope *= ~look.trial.silent[name]
        return Layer(cells, moves, incoming, slope)

    def _slope(self, cells: Cells, membrane: Tensor) -> Tensor:
        unit = (cells.threshold - cells.reset).to(cells.dtype)
        return (
            membrane.sub_(cells.threshold.to(cells.dtype))
            .abs_()
            .mul_(self.beta / unit)
            .add_(1.0)
            .square_()
            .reciprocal_()
            .div_(unit)
        )


@dataclass(frozen=True, eq=False)
class _Look:
    """What one vjp looks at: a trial and its record on a grid. coming: spikes with those on their way from before."""

    grid: Grid
    trial: Trial
    record: Record
    spikes: Mapping[str, Trains]
    coming: Mapping[str, Trains]
    run: Run

    def bundles(self, stage: Stage, cells: Cells) -> list[Bundle]:
        """All synapses onto a population."""
        populations = self.trial.network.populations
        links = [link for link in stage.links if link.target == cells.name]
        return [
            b for link in links for b in bundles(link, populations[link.source].size, cells.size, self._draws(link))
        ]

    def _draws(self, link: Link) -> Draws | None:
        if link.short_term is None:
            return None
        return Draws.of(link, self.spikes[link.source], self.run, self.grid.step_of)


def _looked_at(network: Network) -> list[str]:
    """The populations whose membranes are looked at; of what is run in steps they are computed."""
    stepped = in_steps(network)
    return [n for n, p in network.populations.items() if p.spiking and p.kind is not None and n not in stepped]


def _observed(trial: Trial, record: Record) -> dict[str, Trains]:
    """Spike trains by population; none where it does not spike."""
    spikes = {**trial.drive, **record.spikes}
    batch = trial.batch
    silent = (np.zeros(0), np.zeros(0, np.int32), np.zeros(batch + 1, np.int64))
    found: dict[str, Trains] = {}
    for name, population in trial.network.populations.items():
        if population.spiking and name not in spikes:
            raise Unsupported(
                "SuperSpike needs the spikes of every population",
                where=f"population {name!r}",
                expected="a full record",
            )
        found[name] = trains_of(spikes[name]) if name in spikes else silent
    return found


def _from_start(record: Record, name: str, start: States | None) -> Record:
    """The record with the membrane where the trial begins, which a trial that goes on does not sample again."""
    samples = record.membrane.get(name)
    if start is None or samples is None or not samples.time.shape[-1] or float(samples.time.min()) <= 0:
        return record
    first = torch.from_numpy(start.membrane)[:, None, samples.unit].to(samples.value.dtype)
    time = torch.cat([torch.zeros_like(samples.time[..., :1]), samples.time], -1)
    whole = Samples(time, samples.unit, torch.cat([first, samples.value.detach()], 1))
    return replace(record, membrane={**record.membrane, name: whole})


def _sampled(grid: Grid, record: Record, cells: Cells) -> Tensor:
    """(K, B, N): the latest sample up to the beginning of each step; the first one before there is any."""
    samples = record.membrane.get(cells.name)
    if samples is None or not samples.time.shape[-1] or sorted(samples.unit.tolist()) != list(range(cells.size)):
        raise CannotObserve(
            "SuperSpike needs samples of every neuron's membrane, and they are not in the record",
            where=f"population {cells.name!r}",
            todo="Observe them, or use SuperSpike(replay=True)",
        )
    time = samples.time.detach().to(torch.float64).expand(grid.batch, -1).contiguous()
    begins = grid.times()[:, :-1] + _TINY * grid.dt
    latest = (torch.searchsorted(time, begins, right=True) - 1).clamp_min(0)
    row = torch.arange(grid.batch) * time.shape[1] + latest.t()
    order = torch.argsort(samples.unit)
    value = samples.value.detach().flatten(0, 1).to(cells.dtype)
    value = value if bool((order.diff() == 1).all()) else value[:, order]
    return value.index_select(0, row.flatten()).view(grid.steps, grid.batch, cells.size)


def _push(grid: Grid, count: Tensor) -> Tensor:
    """(K, B, N): every spike of a neuron counts the same."""
    return count.detach().expand(grid.steps, *count.shape)


def _pull(grid: Grid, record: Record, cotangent: Cotangent, cells: Cells) -> Tensor | None:
    """(K + 1, B, N): cotangents of samples and peaks at the grid times around them; None where there are none."""
    if cells.name not in cotangent.membrane and cells.name not in cotangent.peak:
        return None
    pull = torch.zeros(grid.steps + 1, grid.batch, cells.size, dtype=cells.dtype)
    if cells.name in cotangent.membrane:
        samples, value = record.membrane[cells.name], cotangent.membrane[cells.name].detach()
        _spread(grid, pull, _time_of_each(samples, value), samples.unit.expand(value.shape), value)
    if cells.name in cotangent.peak:
        value = cotangent.peak[cells.name].detach()[:, None]
        _spread(grid, pull, record.peak[cells.name].time[:, None], torch.arange(cells.size).expand(value.shape), value)
    return pull


def _time_of_each(samples: Samples, value: Tensor) -> Tensor:
    """(B, T, M)"""
    time = samples.time if samples.time.ndim == 2 else samples.time[None]
    return time[..., None].expand(value.shape)


def _spread(grid: Grid, pull: Tensor, time: Tensor, unit: Tensor, value: Tensor) -> None:
    """Add ``value`` (B, T, M) of these times and neurons to the grid times before and after."""
    sample = torch.arange(grid.batch)[:, None, None].expand(value.shape)
    place = grid.place(time.detach().to(torch.float64), sample).clamp(0.0, float(grid.steps))
    before = torch.floor(place + _TINY).clamp_max(grid.steps - 1)
    share = (place - before).clamp(0.0, 1.0).to(pull.dtype)
    where, value = before.to(torch.int64), value.to(pull.dtype)
    pull.index_put_((where, sample, unit), (1 - share) * value, accumulate=True)
    pull.index_put_((where + 1, sample, unit), share * value, accumulate=True)
