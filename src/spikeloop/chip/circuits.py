"""What the analog memory's codes become on one chip: neurons with values of their own, a weight for each synapse."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.configuration import CAPACITANCE_MAX, CIRCUITS, COLUMNS, DRIVERS, HALVES, ROWS, Analog, Integers
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.mac import Columns
from spikeloop.chip.mismatch import Float, Mismatch, Quantity, Spread, keyed, normals, uniforms
from spikeloop.chip.terms import Switches, Terms
from spikeloop.engine.disturbed import Population

NOT_SPIKING = 1e3
"""Volts: the threshold of a circuit whose comparator is off."""
SATURATION = 3.0
"""The largest current of a synaptic line, over that of one event of weight 63 at the reference (hardware.md 5.1)."""
FLOOR = 48.0
"""CADC steps below the leak where inhibition ends (hardware.md 1.5 and 5.1)."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons of a chip in a configuration, joined circuits as one.

    head: (N,), the circuit that spikes.  of: (512,), which neuron a circuit is part of.  population: as the engine
    takes it, volts and seconds.  distance: (N,) threshold - leak, volts.  synapse: (2, 256, 256) float32, what weight 1
    of a synapse adds to its neuron's current, volts, without the row's sign, but with the neuron's gain for it.
    reset: (N,) volts, above the threshold, too.  capacitance: (N,), codes of all joined circuits together.  written: a
    hash of what the analog memory holds.  floating: (N,), whose leaks are off.
    """

    head: NDArray[np.int64]
    of: NDArray[np.int64]
    population: Population
    distance: Float
    synapse: NDArray[np.float32]
    reset: Float
    capacitance: Float
    written: int
    floating: NDArray[np.bool_]


class Pattern:
    """The fixed pattern of one chip: what `Mismatch` says, drawn from the streams of ``seed``."""

    seed: int
    strengths: Mismatch

    def __init__(self, seed: int, strengths: Mismatch) -> None:
        self.seed, self.strengths = seed, strengths

    def normal(self, quantity: Quantity, shape: tuple[int, ...] = (CIRCUITS,)) -> Float:
        """Standard normal numbers that are this chip's for ever."""
        return normals(self.seed, quantity, shape)

    def varied(self, quantity: Quantity, spread: Spread, written: int) -> Float:
        """(512,): the fixed part, and the part that this writing of the analog memory left."""
        key = int(keyed(self.seed, written))
        left = normals(key, quantity + Quantity.WRITTEN, (CIRCUITS,)) if spread.calibrated else 0.0
        return spread.uncalibrated * self.normal(quantity) + spread.calibrated * left

    def dead(self) -> NDArray[np.bool_]:
        """(512,): circuits that neither spike nor take input."""
        return uniforms(self.seed, Quantity.DEAD, (CIRCUITS,)) < self.strengths.dead


def contents(analog: Analog | Columns | Terms | Switches | Inputs) -> int:
    """A hash of what the analog memory holds."""
    words = np.concatenate([np.asarray(getattr(analog, each.name), np.uint64).ravel() for each in fields(analog)])
    return int(np.bitwise_xor.reduce(keyed(keyed(1, np.arange(len(words), dtype=np.uint64)), words)))


def neurons_of(
    analog: Analog,
    routing_head: Integers,
    row_sign: Integers,
    pattern: Pattern,
    leak_off: NDArray[np.bool_] | None = None,
) -> Neurons:
    """The neurons that ``pattern`` makes of the codes; leak_off: (512,), as in `Inputs`."""
    s, written = pattern.strengths, contents(analog)
    heads, of = np.unique(routing_head, return_inverse=True)

    def merge(values: Float) -> Float:
        """Sums over the circuits of each neuron."""
        return np.bincount(of, values, len(heads)).astype(np.float64)

    leak_g = transfer.conductance(analog.leak_bias, analog.leak_division)
    leak_g = leak_g / np.exp(pattern.varied(Quantity.TAU_MEM, s.tau_mem, written))
    off, pulled = np.zeros(CIRCUITS, bool) if leak_off is None else np.asarray(leak_off, bool), np.zeros(CIRCUITS)
    if off.any():  # what is left of it is another conductance, to another potential
        leak_g = np.where(off, _leakage(analog, pattern), leak_g)
        pulled = off * leak_g * transfer.STEP * s.leakage_potential * pattern.normal(Quantity.LEAKAGE_POTENTIAL)
    capacitance, conductance = merge(np.maximum(analog.capacitance, 1.0)), merge(leak_g)
    tau_mem = transfer.LEAK_TIME * capacitance / CAPACITANCE_MAX / conductance
    size = merge(np.ones(CIRCUITS))
    tau_syn = merge(_tau_syn(analog, pattern, written)) / size
    leak = merge(leak_g * _potential(analog.leak, Quantity.LEAK, s.leak, pattern, written)) / conductance
    threshold = _potential(analog.threshold, Quantity.THRESHOLD, s.threshold, pattern, written)[heads]
    distance = (threshold - leak) * (
        1 + s.threshold_bias + pattern.varied(Quantity.THRESHOLD_DISTANCE, s.threshold_distance, written)[heads]
    )
    reset = _potential(analog.reset, Quantity.RESET, s.reset, pattern, written)[heads]
    fires = np.asarray(analog.fires, bool)[heads] & ~pattern.dead()[heads]
    threshold = np.where(fires, leak + distance, NOT_SPIKING)
    hold = transfer.refractory_seconds(analog.refractory, analog.refractory_clock)[heads]
    hold = hold * (1 + s.refractory * pattern.normal(Quantity.REFRACTORY)[heads])
    rest = leak + merge(pulled) / conductance
    values = np.stack([tau_mem, tau_syn, threshold, rest, np.minimum(reset, threshold - 1e-3), np.maximum(hold, 0)])
    jump = transfer.REFERENCE_JUMP * tau_mem / transfer.REFERENCE_TAU * CAPACITANCE_MAX / capacitance
    most = SATURATION * 63 * jump * merge(1 + s.saturation * pattern.normal(Quantity.SATURATION))
    low = leak - transfer.STEP * (FLOOR + s.floor * pattern.normal(Quantity.FLOOR)[heads])
    disturbance = np.stack([low, np.maximum(most, 0), np.zeros_like(low), np.zeros_like(low), heads.astype(np.float64)])
    synapse = _synapses(analog, row_sign, pattern, written) * jump[of].reshape(HALVES, 1, COLUMNS)
    population = Population(values, disturbance)
    single = synapse.astype(np.float32)
    floating = merge(off.astype(np.float64)) > 0
    return Neurons(heads.astype(np.int64), of, population, distance, single, reset, capacitance, written, floating)


def _leakage(analog: Analog, pattern: Pattern) -> Float:
    """Conductance of circuits whose leak is off, in units of what code 1 gives the leak."""
    time = transfer.LEAKAGE_TIME * np.exp(pattern.strengths.leakage * pattern.normal(Quantity.LEAKAGE))
    capacitance: Float = np.maximum(analog.capacitance, 1.0)
    return transfer.LEAK_TIME * capacitance / CAPACITANCE_MAX / time


def _potential(code: Integers, quantity: Quantity, spread: Spread, pattern: Pattern, written: int) -> Float:
    return transfer.volts(code) + transfer.STEP * pattern.varied(quantity, spread, written)


def _tau_syn(analog: Analog, pattern: Pattern, written: int) -> Float:
    nominal = transfer.SYNAPSE_TIME / transfer.conductance(analog.synapse_bias, analog.synapse_division)
    return nominal * np.exp(pattern.varied(Quantity.TAU_SYN, pattern.strengths.tau_syn, written))


def _synapses(analog: Analog, row_sign: Integers, pattern: Pattern, written: int) -> Float:
    """(2, 256, 256): gain of each synapse over the reference."""
    s = pattern.strengths
    code = np.asarray(analog.gain, np.float64) / transfer.REFERENCE_GAIN
    gains = np.stack([
        code[polarity] * np.exp(pattern.varied(quantity, s.gain, written))
        for polarity, quantity in enumerate((Quantity.GAIN_EXCITATORY, Quantity.GAIN_INHIBITORY))
    ])  # fmt: skip
    gains = np.where(pattern.dead(), 0.0, gains).reshape(2, HALVES, COLUMNS)
    own = 1 + s.synapse * pattern.normal(Quantity.SYNAPSE, (HALVES, ROWS, COLUMNS))
    driver = 1 + s.driver * pattern.normal(Quantity.DRIVER, (HALVES, DRIVERS))
    dac = np.repeat(np.asarray(analog.synapse_dac, np.float64).reshape(HALVES, 2), COLUMNS // 2, axis=1)
    by_row = np.where((row_sign < 0)[:, :, None], gains[1][:, None], gains[0][:, None])
    scale = by_row * (dac / transfer.REFERENCE_DAC)[:, None]
    return np.maximum(own, 0) * np.repeat(np.maximum(driver, 0), 2, axis=1)[:, :, None] * scale
