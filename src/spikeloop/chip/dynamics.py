"""What the codes of AdEx terms and of couplings become on one chip, and which compartments are one neuron."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import transfer
from spikeloop.chip.circuits import NOT_SPIKING, Neurons, Pattern, contents
from spikeloop.chip.configuration import CAPACITANCE_MAX, CIRCUITS
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.mismatch import Float, Quantity
from spikeloop.chip.terms import Switches, Terms

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Couplings:
    """L couplings between neurons of `Neurons`: one, other (L,); tau: full capacitance over the conductance, s."""

    one: Indices
    other: Indices
    tau: Float

    def matrix(self, neurons: int) -> NDArray[np.bool_]:
        """(N, N): who is coupled to whom, both ways."""
        found = np.zeros((neurons, neurons), bool)
        found[self.one, self.other] = found[self.other, self.one] = True
        return found


@dataclass(frozen=True, eq=False)
class Lines:
    """The receptors of N compartments: one, where both synaptic lines are alike, or the two of them.

    tau_syn: (1 or 2, N) s.  reversal: likewise, volts, NaN: current-based.  strength: (2, N), what their weights are
    multiplied by.
    """

    tau_syn: Float
    reversal: Float
    strength: Float

    @property
    def two(self) -> bool:
        """Whether excitation and inhibition are apart."""
        return len(self.tau_syn) > 1


@dataclass(frozen=True, eq=False)
class Dynamics:
    """All of a chip's compartments, in the order of `Neurons`.

    values: (11, N), rows as in ``engine.stepped.CELL_FIELDS``, volts and seconds.  tree: (N,), which neuron each
    compartment is part of: the lowest of its compartments.  offset: (512,), volts (current times its neuron's
    resistance) of each circuit's constant current where it is on.
    """

    values: Float
    couplings: Couplings
    tree: Indices
    lines: Lines
    offset: Float


def dynamics_of(
    neurons: Neurons, terms: Terms | None, switches: Switches | None, inputs: Inputs | None, pattern: Pattern
) -> Dynamics:
    """The numbers that ``pattern`` makes of the codes."""
    tau_mem, _, threshold, leak, _, refractory = neurons.population.values
    size = len(neurons.head)
    zero = np.zeros(size)
    slope, exponential, tau_adaptation, a, b = zero, threshold, zero + 1.0, zero, zero
    if terms is not None:
        slope, exponential, tau_adaptation, a, b = _terms(neurons, terms, pattern)
    values = np.stack([
        tau_mem, np.where(threshold < NOT_SPIKING, threshold, np.inf), leak, neurons.reset, refractory,
        slope, exponential, tau_adaptation, a, b, neurons.capacitance / CAPACITANCE_MAX,
    ])  # fmt: skip
    couplings = _couplings(neurons, switches, pattern)
    lines = _lines(neurons, inputs, pattern)
    return Dynamics(values, couplings, _trees(size, couplings), lines, _offset(neurons, inputs, pattern))


def _terms(neurons: Neurons, terms: Terms, pattern: Pattern) -> tuple[Float, Float, Float, Float, Float]:
    """Slope, exponential threshold, tau_adaptation, a and b of each head."""
    s, written, head = pattern.strengths, contents(terms), neurons.head

    def factor(quantity: Quantity, name: str) -> Float:
        return np.exp(pattern.varied(quantity, getattr(s, name), written))

    resistance = transfer.resistance(neurons.population.values[0], neurons.capacitance)
    slope = transfer.slope(terms.slope) * factor(Quantity.SLOPE, "slope") * np.asarray(terms.exponential, bool)
    shift = pattern.varied(Quantity.EXPONENTIAL_THRESHOLD, s.exponential_threshold, written)
    threshold = transfer.volts(terms.exponential_threshold) + transfer.STEP * shift
    forgets = transfer.tau_adaptation(terms.tau_adaptation, terms.adaptation_division)
    on = np.asarray(terms.adaptation, bool)
    size_a, size_b = (
        np.where(invert, -1.0, 1.0) * on * code / reference * factor(quantity, name)
        for invert, code, reference, quantity, name in (
            (terms.invert_a, terms.a, transfer.REFERENCE_A, Quantity.ADAPTATION_A, "adaptation_a"),
            (terms.invert_b, terms.b, transfer.REFERENCE_B, Quantity.ADAPTATION_B, "adaptation_b"),
        )
    )
    return (
        slope[head],
        threshold[head],
        (forgets * factor(Quantity.TAU_ADAPTATION, "tau_adaptation"))[head],
        size_a[head] * resistance,
        size_b[head] * resistance * transfer.REFERENCE_PULSE,
    )


def _couplings(neurons: Neurons, switches: Switches | None, pattern: Pattern) -> Couplings:
    if switches is None:
        none = np.zeros(0, np.int64)
        return Couplings(none, none, np.zeros(0))
    found = switches.couplings(neurons.head[neurons.of])
    spread = pattern.varied(Quantity.CONDUCTANCE, pattern.strengths.conductance, contents(switches))
    tau = transfer.tau_coupling(switches.conductance, switches.conductance_scale) * np.exp(spread)
    return Couplings(neurons.of[found.one], neurons.of[found.other], tau[found.circuit])


def _lines(neurons: Neurons, inputs: Inputs | None, pattern: Pattern) -> Lines:
    tau, size = neurons.population.values[1], len(neurons.head)
    lasting = None if inputs is None else inputs.lasting
    if inputs is None or lasting is None or not inputs.two_lines:
        return Lines(tau[None], np.full((1, size), np.nan), np.ones((2, size)))
    written, count = contents(lasting), np.bincount(neurons.of, minlength=size)

    def mean(values: Float) -> Float:
        """Of the circuits of each neuron."""
        return np.bincount(neurons.of, values, size) / count

    of_line = [
        _line(inputs, row, quantities, pattern, written)
        for row, quantities in enumerate((
            (Quantity.LINE_EXCITATORY, Quantity.REVERSAL_EXCITATORY),
            (Quantity.LINE_INHIBITORY, Quantity.REVERSAL_INHIBITORY),
        ))
    ]  # fmt: skip
    separate, follows = inputs.separate[:, neurons.head], inputs.conductance[:, neurons.head]
    tau_syn = np.where(separate, [mean(own) for own, _ in of_line], tau)
    reversal = np.where(follows, [mean(potential) for _, potential in of_line], np.nan)
    leak, reference = neurons.population.values[3], transfer.volts(inputs.reference)[neurons.head]
    strength = np.where(follows, (reversal - leak) / (reversal - reference), 1.0)
    return Lines(tau_syn, reversal, strength)


def _line(
    inputs: Inputs, row: int, quantities: tuple[Quantity, Quantity], pattern: Pattern, written: int
) -> tuple[Float, Float]:
    """(512,) each: time constant, s, and reversal potential, volts."""
    of_time, of_potential = quantities
    nominal = transfer.SYNAPSE_TIME / transfer.conductance(inputs.synapse_bias[row], inputs.synapse_division[row])
    shift = transfer.STEP * pattern.varied(of_potential, pattern.strengths.reversal, written)
    tau: Float = nominal * np.exp(pattern.varied(of_time, pattern.strengths.line, written))
    return tau, transfer.volts(inputs.reversal[row]) + shift


def _offset(neurons: Neurons, inputs: Inputs | None, pattern: Pattern) -> Float:
    if inputs is None:
        return np.zeros(CIRCUITS)
    spread = pattern.varied(Quantity.OFFSET, pattern.strengths.offset, contents(inputs))
    resistance = transfer.resistance(neurons.population.values[0], neurons.capacitance)[neurons.of]
    return transfer.offset(inputs.offset) * np.exp(spread) * resistance


def _trees(size: int, couplings: Couplings) -> Indices:
    tree = np.arange(size)
    while True:
        low = np.minimum(tree[couplings.one], tree[couplings.other])
        before = tree.copy()
        np.minimum.at(tree, couplings.one, low)
        np.minimum.at(tree, couplings.other, low)
        if np.array_equal(tree, before):
            return tree


@dataclass(frozen=True, eq=False)
class Alike:
    """N neurons that are put together in the same way, of C compartments.

    member: (C, N), compartments as places in `Neurons`.  pair: (L, 2) compartments of each coupling.  coupling: (L, N),
    which of `Couplings`.  output: which compartment's spikes become events.
    """

    member: Indices
    pair: NDArray[np.int32]
    coupling: Indices
    output: int


def alike(dynamics: Dynamics, chosen: Indices, sends: NDArray[np.bool_]) -> Iterator[Alike]:
    """The neurons among compartments ``chosen`` (whole trees, ascending); sends: (N,), of all compartments."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for each in chosen.tolist():
        members[int(dynamics.tree[each])].append(each)
    edges: defaultdict[int, list[int]] = defaultdict(list)
    for k, one in enumerate(dynamics.couplings.one.tolist()):
        edges[int(dynamics.tree[one])].append(k)
    groups: defaultdict[tuple[object, ...], list[tuple[list[int], list[int]]]] = defaultdict(list)
    one, other = dynamics.couplings.one, dynamics.couplings.other
    for tree, cells in members.items():
        pairs = [(tuple(sorted((cells.index(int(one[k])), cells.index(int(other[k]))))), k) for k in edges[tree]]
        pairs.sort()
        out = next((place for place, cell in enumerate(cells) if sends[cell]), 0)
        groups[len(cells), out, *(pair for pair, _ in pairs)].append((cells, [k for _, k in pairs]))
    for signature, found in groups.items():
        member = np.array([cells for cells, _ in found], np.int64).T
        coupling = np.array([which for _, which in found], np.int64).reshape(len(found), -1).T
        pair = np.array(signature[2:], np.int32).reshape(-1, 2)
        yield Alike(np.ascontiguousarray(member), pair, np.ascontiguousarray(coupling), int(signature[1]))  # type: ignore[call-overload]
