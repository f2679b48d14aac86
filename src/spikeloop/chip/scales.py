"""How potentials and weights of models become a chip's: the scale of every neuron, from its own numbers.

Potentials are affine: a neuron's leak is 80 CADC steps, its threshold 70 above; model time is chip time times
``speedup``. A weight is counted in weight steps of the chip, whose potential is set by the calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.calibration import Target
from spikeloop.chip.configuration import CAPACITANCE_MAX
from spikeloop.chip.transfer import REFERENCE_PSP
from spikeloop.population import Population

Float = NDArray[np.float64]

LEAK, DISTANCE = 80.0, 70.0
"""CADC steps: where leaks are put, and how far above them thresholds (hardware.md 1.3, "spiking2")."""

_ROUNDING = 1e-6  # of a cycle
_GAIN_AT_MOST = 0.8 * transfer.GAIN_RANGE[1]  # leaves room for a calibration


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
    capacitance = CAPACITANCE_MAX * capacitance_share(population, compartment)
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


def capacitance_share(population: Population, compartment: str) -> Float:
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


def cycle_at(time: float, cycle: float) -> int:
    """The cycle in which a moment lies, where one takes ``cycle`` model seconds; rounding does not put it before."""
    return int(np.floor(time / cycle + _ROUNDING))
