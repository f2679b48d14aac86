"""Between model numbers and codes: potentials, times and weights down to the chip, spikes and membranes back up.

Potentials are affine: a neuron's leak is 80 CADC steps, its threshold 70 above; model time is chip time times
``speedup``. A weight is counted in weight steps of the chip, whose potential is set by the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.chip import lower_drivers, transfer
from spikeloop.chip.calibration import RANGES, Target, outside
from spikeloop.chip.configuration import (
    CAPACITANCE_MAX,
    CIRCUITS,
    COLUMNS,
    CYCLE,
    DEPTH,
    HALVES,
    ROWS,
    WEIGHT_MAX,
    AddressedEvents,
    Integers,
)
from spikeloop.chip.mapping import Placement, site_key
from spikeloop.chip.transfer import REFERENCE_PSP
from spikeloop.engine.arriving import only
from spikeloop.engine.bus import hold_back
from spikeloop.engine.codes import Rounded, lay, rounded
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.neuron import Site
from spikeloop.population import Population
from spikeloop.projection import Projection

Float = NDArray[np.float64]

LEAK, DISTANCE = 80.0, 70.0
"""CADC steps: where leaks are put, and how far above them thresholds (hardware.md 1.3, "spiking2")."""

_GAIN_AT_MOST = 0.8 * transfer.GAIN_RANGE[1]  # leaves room for a calibration
_EXACT = 1e-4  # of a code: less is float32's own rounding
SHORTEST_HOLD = 5 * CYCLE
"""Seconds: the shortest refractory time (hardware.md 1.3)."""


@dataclass(frozen=True, eq=False)
class Scale:
    """How a population's numbers become a chip's, per neuron, (N,).

    leak: model potential at ``rest``, which is in CADC steps.  steps: CADC steps per model unit of potential.
    psp: CADC steps of potential per weight step.  weight: model weight of one weight step.
    """

    leak: Float
    rest: Float
    steps: Float
    psp: Float
    weight: Float


def scale_of(population: Population, speedup: float, compartment: str | None = None) -> Scale:
    """The scale that is asked of a calibration, at ``speedup`` model seconds per chip second.

    Of a population of several compartments that of one, by default the output; their potentials have one scale.
    """
    compartment = _output(population) if compartment is None else compartment
    tau_mem, tau_syn = (number(population, tau, compartment) / speedup for tau in ("tau_mem", "tau_syn"))
    capacitance = CAPACITANCE_MAX * _share(population, compartment)
    least, most = (
        transfer.psp(gain, tau_mem, tau_syn, capacitance) for gain in (transfer.GAIN_RANGE[0], _GAIN_AT_MOST)
    )
    psp = np.maximum(np.minimum(REFERENCE_PSP, most), least)
    whole = np.ones(population.size)
    return _scale(population, LEAK * whole, DISTANCE * whole, psp, tau_mem, tau_syn)


def calibrated_scale(
    population: Population, circuit: NDArray[np.int64], target: Target, compartment: str | None = None
) -> Scale:
    """The scale of a population, or of one of its compartments, on circuits (N, n) calibrated to ``target``."""
    head = circuit[:, 0]
    leak, distance = target.leak[head], (target.threshold - target.leak)[head]
    if compartment:  # a tree of compartments is calibrated for itself: its potentials have one scale
        leak, distance = np.full(population.size, LEAK), np.full(population.size, DISTANCE)
    psp = target.psp[head] / circuit.shape[1]  # a synapse sees the capacitance of all circuits of its neuron
    return _scale(population, leak, distance, psp, target.tau_mem[head], target.tau_syn[head])


def _scale(population: Population, rest: Float, distance: Float, psp: Float, tau_mem: Float, tau_syn: Float) -> Scale:
    """From the CADC steps of leak and threshold above it, chip seconds, and the potential of a weight step."""
    leak = number(population, "leak", _output(population))
    steps = distance / reach(population)
    return Scale(leak, rest, steps, psp, psp / steps / transfer.response_peak(tau_mem, tau_syn))


def reach(population: Population) -> Float:
    """(N,): model potential of the highest threshold or plateau, above the output's leak; 1 where there is none."""
    structure = population.structure
    assert structure is not None
    heights = [
        number(population, what, site.name)
        for site in structure.sites if site.fires
        for what in (("threshold", "reset") if site.plateau else ("threshold",))
    ]  # fmt: skip
    if not heights:
        return np.ones(population.size)
    reach: Float = np.max(heights, axis=0) - number(population, "leak", _output(population))
    return reach


def _output(population: Population) -> str:
    assert population.structure is not None
    return population.structure.output


def number(population: Population, what: str, compartment: str, other: str = "") -> Float:
    """(N,): a number of a compartment, "" being that of a point neuron; of a coupling, that to the ``other``."""
    assert population.structure is not None
    receptor = population.structure.site(compartment).receptors[0] if what == "tau_syn" else other
    name = population.structure.name_of(what, compartment, receptor)
    if name is None and what == "capacitance":
        return np.ones(population.size)
    return _per_neuron(population, str(name))


def _share(population: Population, compartment: str) -> Float:
    """(N,): a compartment's capacitance over the largest of its neuron's."""
    share: Float = number(population, "capacitance", compartment) / np.max(capacitances(population), axis=0)
    return share


def capacitances(population: Population) -> list[Float]:
    """The capacitances of all compartments, (N,) each, in units of the model's reference."""
    assert population.structure is not None
    return [number(population, "capacitance", site.name) for site in population.structure.sites]


def _per_neuron(population: Population, field: str) -> Float:
    value = getattr(population, field).detach().to(torch.float64).numpy()
    return np.broadcast_to(value, (population.size,)).copy()


def check_reach(network: Network, speedup: float) -> None:
    """Raise ``OutOfRange``, in the model's numbers and the chip's, where a neuron is what no circuit can be."""
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            _check_above(name, population, site)
            _check_floating(name, population, site)
            for field, value in _wanted(population, site, 1, speedup).items():
                if field in RANGES and len(wrong := outside(np.asarray(value), *RANGES[field][:2])):
                    raise _unreachable((name, population, site.name), field, np.asarray(value), int(wrong[0]), speedup)


def _check_above(name: str, population: Population, site: Site) -> None:
    if not site.fires:
        return
    leak, threshold = (number(population, field, site.name) for field in ("leak", "threshold"))
    above = np.flatnonzero(~((threshold > leak) & np.isfinite(threshold)))
    if len(above):
        raise OutOfRange(
            f"the leak is {leak[above[0]]:g}, the threshold {threshold[above[0]]:g}",
            where=f"population {name!r}",
            expected="a leak below the threshold: their distance is what a chip's potentials are scaled to",
            todo="Lower the leak, or run the network on Ideal()",
        )  # fmt: skip


def _check_floating(name: str, population: Population, site: Site) -> None:
    """A neuron without a leak begins at its reset; its other terms are currents over the leak's."""
    if site.leaky:
        return
    leak, reset, a, slope = (_or_zero(population, field, site) for field in ("leak", "reset", "a", "slope_factor"))
    where = f"population {site_key(name, site.name)!r}"
    apart = np.flatnonzero((reset != leak) & site.fires)
    if len(apart):
        raise Unsupported(
            f"it has no leak, and its reset is {reset[apart[0]]:g}, its leak {leak[apart[0]]:g}", where=where,
            expected="one number: a chip's membrane that has no leak begins where it is reset",
            todo="Set leak=reset, or run it on Ideal",
        )  # fmt: skip
    if a.any() or slope.any():
        raise Unsupported(
            f"it has {'a' if a.any() else 'slope_factor'}, but no leak", where=where,
            expected="b alone: on a chip the others are measured by the leak's conductance",
            todo="Take a long tau_mem, or run it on Ideal",
        )  # fmt: skip


def _or_zero(population: Population, what: str, site: Site) -> Float:
    assert population.structure is not None
    known = population.structure.name_of(what, site.name) is not None
    return number(population, what, site.name) if known else np.zeros(population.size)


def _unreachable(of: tuple[str, Population, str], field: str, value: Float, neuron: int, speedup: float) -> OutOfRange:
    name, population, compartment = of
    low, high, unit = RANGES[field]
    given = number(population, field, compartment)[neuron]
    if unit == "s":
        least, most, own = low * speedup, high * speedup, " s"
        todo = "Choose another speedup, or another time"
    elif unit == "codes":
        least, most, own, todo = low / CAPACITANCE_MAX, high / CAPACITANCE_MAX, "", "Choose one nearer to the largest"
    else:
        scale = scale_of(population, speedup)
        least, most = (scale.leak[neuron] + (end - LEAK) / scale.steps[neuron] for end in (low, high))
        own, todo = "", "Choose one nearer to the leak"
    return OutOfRange(
        f"{field} is {given:g}{own} ({value[neuron]:g} {unit} on the chip)",
        where=f"population {site_key(name, compartment)!r}",
        expected=f"{least:g} to {most:g}{own} ({low:g} to {high:g} {unit} on the chip, at speedup {speedup:g})",
        todo=todo,
    )  # fmt: skip


def target_of(network: Network, placement: Placement, speedup: float) -> Target:
    """What the circuits shall be for ``network``; circuits without a neuron get what the published experiments used."""
    values = {
        "leak": LEAK, "reset": LEAK, "threshold": LEAK + DISTANCE, "tau_mem": 6e-6, "tau_syn": 6e-6,
        "psp": REFERENCE_PSP,
        "refractory": SHORTEST_HOLD, "capacitance": CAPACITANCE_MAX,
    }  # fmt: skip
    check_reach(network, speedup)
    arrays = {name: np.full(CIRCUITS, float(value)) for name, value in values.items()}
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            circuit = placement.site[site_key(name, site.name)]
            for field, value in _wanted(population, site, circuit.shape[1], speedup).items():
                arrays[field][circuit] = np.broadcast_to(value, (len(circuit),))[:, None]
    return Target(**arrays)


def _wanted(population: Population, site: Site, circuits: int, speedup: float) -> dict[str, Float | float]:
    """What the circuits of a compartment shall be."""
    scale = scale_of(population, speedup, site.name)
    share = np.rint(CAPACITANCE_MAX / circuits * _share(population, site.name))
    wanted: dict[str, Float | float] = {
        "tau_mem": number(population, "tau_mem", site.name) / speedup,
        "tau_syn": number(population, "tau_syn", site.name) / speedup,
        "capacitance": share,
        "psp": scale.psp * circuits,
    }
    several = site.name != ""
    if several:
        wanted["leak"] = _level(population, scale, "leak", site)
    if site.fires:
        wanted["reset"] = _level(population, scale, "reset", site)
        wanted["refractory"] = np.maximum(number(population, "refractory", site.name) / speedup, SHORTEST_HOLD)
        if several:
            wanted["threshold"] = _level(population, scale, "threshold", site)
    elif several and not site.leaky:
        wanted["reset"] = wanted["leak"]
    return wanted


def _level(population: Population, scale: Scale, what: str, site: Site) -> Float:
    """CADC steps of a potential."""
    level: Float = LEAK + scale.steps * (number(population, what, site.name) - scale.leak)
    return level


@dataclass(frozen=True, eq=False)
class Lowered:
    """Weights on their way to the array.

    weight: (2, 256, 256), the array's.  codes: by projection, (S, T), signed, summed over the rows of a synapse.
    executed: what they are in model units, shaped like the projections' weights.  clipped: synapses beyond the range.
    rounded: others that lie between codes.  rounding: the rms of what that changed, over all synapses, in codes.
    """

    weight: NDArray[np.uint8]
    codes: Mapping[str, NDArray[np.int32]]
    executed: Mapping[str, Tensor]
    clipped: int
    rounded: int
    rounding: float


def lower_weights(network: Network, placement: Placement, scales: Mapping[str, Scale], strict: bool = False) -> Lowered:
    """The array's weights, and what they are in model units.

    Weights beyond the range are clipped; if ``strict`` they are an ``OutOfRange`` that says how many, and where.
    """
    flat = np.zeros(HALVES * ROWS * COLUMNS, np.uint8)
    codes, executed = dict[str, NDArray[np.int32]](), dict[str, Tensor]()
    clipped, between, squares, synapses = 0, 0, 0.0, 0
    for name, projection in network.projections.items():
        place, unit = placement.synapse[name], scales[site_key(projection.target, projection.place[0])].weight
        share = lower_drivers.share(projection, place.shape[1])
        found = rounded(_scaled(_dense(projection), share), unit, WEIGHT_MAX * len(place), _EXACT)
        if strict and found.beyond:
            raise _beyond(name, found, unit / share, len(place))
        clipped, between, squares = clipped + found.beyond, between + found.between, squares + found.squares
        synapses += synapses_of(projection)
        codes[name], executed[name] = found.code, _as_given(projection, _scaled(found.executed, 1 / share))
        lay(found.code, place, COLUMNS, flat)
    return Lowered(
        flat.reshape(HALVES, ROWS, COLUMNS), codes, executed, clipped, between, math.sqrt(squares / max(synapses, 1))
    )


def _scaled(weight: NDArray[Any], share: Float | float) -> NDArray[Any]:
    return weight if isinstance(share, float) else weight * share


def _beyond(name: str, found: Rounded, unit: Float, rows: int) -> OutOfRange:
    least, largest = (WEIGHT_MAX * rows * float(edge) for edge in (unit.min(), unit.max()))
    reach = f"{largest:.4g}" if least == largest else f"{least:.4g} to {largest:.4g}, by neuron"
    return OutOfRange(
        f"{found.beyond} of {found.code.size} weights are beyond what the chip reaches",
        where=f"projection {name}",
        expected=f"at most {reach}: {WEIGHT_MAX} steps on each of {rows} row pair{'s' if rows > 1 else ''}",
        todo="Scale the weights or the potentials down, give inputs more rows_per_input, or clip: strict=False",
    )


def synapses_of(projection: Projection) -> int:
    """How many synapses it consists of."""
    return projection.weight.numel() if projection.synapses is None else len(projection.synapses.target)


def _dense(projection: Projection) -> NDArray[Any]:
    """(S, T): the projection's weights, zero where there is no synapse."""
    given = projection.weight.detach()
    weight = given.to(torch.promote_types(given.dtype, torch.float32)).numpy()
    synapses = projection.synapses
    if synapses is None:
        return weight
    assert projection.shape is not None
    dense = np.zeros(projection.shape, weight.dtype)
    np.add.at(dense, (synapses.source.numpy(), synapses.target.numpy()), weight.reshape(-1)[synapses.index.numpy()])
    return dense


def _as_given(projection: Projection, dense: NDArray[Any]) -> Tensor:
    """Weights (S, T) in the shape of the projection's; the mean where several synapses share one."""
    given = projection.weight.detach()
    synapses = projection.synapses
    if synapses is None:
        return torch.from_numpy(dense).to(given.dtype)
    index = synapses.index.numpy()
    value = dense[synapses.source.numpy(), synapses.target.numpy()]
    count = np.maximum(np.bincount(index, minlength=given.numel()), 1)
    mean = np.bincount(index, value, given.numel()) / count
    return torch.from_numpy(mean).to(given.dtype).reshape(given.shape)


def lower_events(
    drive: Mapping[str, Events], placement: Placement, speedup: float, muted: NDArray[np.bool_], trial: int
) -> AddressedEvents:
    """The drive with addresses in the place of units; times rounded to cycles.

    Of many at once some are sent later: a link passes one a cycle, and drops what comes when too many wait there.
    """
    parts = [_sent(events, placement.address[name], speedup) for name, events in drive.items()]
    cycle, address, start = parts[0]
    if len(parts) > 1:
        sample = np.concatenate([np.repeat(np.arange(len(start) - 1), np.diff(start)) for _, _, start in parts])
        cycle, address = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        order = np.lexsort((cycle, sample))
        cycle, address, start = cycle[order], address[order], np.asarray(sum(part[2] for part in parts))
    sent = np.ascontiguousarray(cycle, np.int64)
    hold_back(sent, np.ascontiguousarray(start, np.int64), DEPTH)
    return AddressedEvents(sent, address, start, muted=muted, trial=trial)


def _sent(events: Events, address: NDArray[np.int64], speedup: float) -> tuple[Integers, Integers, Integers]:
    cycle = np.rint(events.time.detach().numpy() / (speedup * CYCLE)).astype(np.int64)
    return cycle, address[events.unit.numpy()], events.start.numpy()


def lift_events(
    cycle: Integers, circuit: Integers, start: Integers, placed: Mapping[str, Integers], speedup: float
) -> dict[str, Events]:
    """The spikes of populations from events with time stamps (cycles) and the circuits that sent them.

    placed: by population, (N, circuits of a neuron), the first of each being the one that spikes.
    """
    time = ((cycle + 0.5) * (CYCLE * speedup)).astype(np.float64, copy=False)
    found: dict[str, Events] = {}
    for name, of in placed.items():
        unit = np.full(CIRCUITS, -1, np.int32)
        unit[of[:, 0]] = np.arange(len(of))
        mine = unit[circuit]
        keep = mine >= 0
        parts = (time, mine, start.astype(np.int64))
        if not keep.all():
            parts = only(parts, keep)
        when, who, first = (torch.from_numpy(part) for part in parts)
        found[name] = Events._trusted(when, who, first, len(of))  # in order, as a Readout is
    return found


def lift_slow(reading: Integers, gain: Float, scale: Scale, neuron: NDArray[np.int64]) -> Float:
    """Model potentials of (..., M) readings of the column ADC of the neurons ``neuron``; gain: of their channels."""
    return _lifted(reading, 1 / gain, transfer.CADC_CENTRE * (1 - 1 / gain), scale, neuron)


def lift_fast(reading: Integers, scale: Scale, neuron: NDArray[np.int64]) -> Float:
    """Model potentials of (..., M) readings of the fast converter of the neurons ``neuron``."""
    return _lifted(reading, transfer.MADC_STEP / transfer.STEP, transfer.steps_of_volts(0.0), scale, neuron)


def lift_adaptation(reading: Integers, scale: Scale, neuron: NDArray[np.int64]) -> Float:
    """Adaptation in model units of (..., M) readings of the fast converter of the neurons ``neuron``."""
    value: Float = (reading * transfer.MADC_STEP - transfer.ADAPTATION_READ) / transfer.STEP / scale.steps[neuron]
    return value


def _lifted(
    reading: Integers, step: Float | float, base: Float | float, scale: Scale, neuron: NDArray[np.int64]
) -> Float:
    """Model potentials of readings of which each is ``step`` CADC steps, and 0 is ``base``; there are many of them."""
    value = reading * (step / scale.steps[neuron])
    value += scale.leak[neuron] + (base - scale.rest[neuron]) / scale.steps[neuron]
    return value
