"""What neurons have beyond leak, threshold and reset: codes of the AdEx terms, switches between compartments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.geometry import CIRCUITS, CODE_MAX, COLUMNS, HALVES, Flags, Integers, check, full
from spikeloop.errors import OutOfRange

_WHERE = "chip configuration, {}"


class Kinds(NamedTuple):
    """What neurons have beyond leak and threshold."""

    exponential: bool
    adaptation: bool
    coupling: bool
    offset: bool = False
    line: bool = False
    reversal: bool = False


def _off(size: int = CIRCUITS) -> Flags:
    return np.zeros(size, np.bool_)


@dataclass(frozen=True, eq=False)
class Terms:
    """Exponential and adaptation of each circuit, (512,); of joined circuits the head's count.

    exponential: whether it is on.  slope, exponential_threshold: codes of a current and of a potential, 0..1022.
    adaptation: whether it is on.  a, b, tau_adaptation: codes; invert_a, invert_b: their signs; adaptation_division: an
    eighth of the conductance that forgets.
    """

    exponential: Flags = field(default_factory=_off)
    slope: Integers = field(default_factory=full((CIRCUITS,), 0))
    exponential_threshold: Integers = field(default_factory=full((CIRCUITS,), CODE_MAX))
    adaptation: Flags = field(default_factory=_off)
    a: Integers = field(default_factory=full((CIRCUITS,), 0))
    b: Integers = field(default_factory=full((CIRCUITS,), 0))
    tau_adaptation: Integers = field(default_factory=full((CIRCUITS,), 100))
    invert_a: Flags = field(default_factory=_off)
    invert_b: Flags = field(default_factory=_off)
    adaptation_division: Flags = field(default_factory=lambda: np.ones(CIRCUITS, np.bool_))

    def __post_init__(self) -> None:
        for name in ("slope", "exponential_threshold", "a", "b", "tau_adaptation"):
            check(name, getattr(self, name), (CIRCUITS,), 0, CODE_MAX, _WHERE.format("terms"))
        for name in ("exponential", "adaptation", "invert_a", "invert_b", "adaptation_division"):
            check(name, getattr(self, name), (CIRCUITS,), 0, 1, _WHERE.format("terms"))


@dataclass(frozen=True, eq=False)
class Coupling:
    """Pairs of joined circuits, by their heads, and the circuit whose conductance couples them: (L,) each."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    circuit: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Switches:
    """How circuits are connected, (512,) unless said otherwise; see `morphology`.

    connect_right: membranes with those of the next column.  connect_vertical: (256,), the two of a column.
    connect_soma: a membrane with its piece of the row's line; connect_conductance: the same through a conductance.
    connect_soma_right: pieces of line with those of the next column.
    conductance: code, 0..1022; conductance_scale: -1, 0, 1: a fourth, once, four times.
    """

    connect_right: Flags = field(default_factory=_off)
    connect_vertical: Flags = field(default_factory=lambda: _off(COLUMNS))
    connect_soma: Flags = field(default_factory=_off)
    connect_conductance: Flags = field(default_factory=_off)
    connect_soma_right: Flags = field(default_factory=_off)
    conductance: Integers = field(default_factory=full((CIRCUITS,), 0))
    conductance_scale: Integers = field(default_factory=full((CIRCUITS,), 0, np.int8))

    def __post_init__(self) -> None:
        where = _WHERE.format("switches")
        for name in ("connect_right", "connect_soma", "connect_conductance", "connect_soma_right"):
            check(name, getattr(self, name), (CIRCUITS,), 0, 1, where)
        check("connect_vertical", self.connect_vertical, (COLUMNS,), 0, 1, where)
        check("conductance", self.conductance, (CIRCUITS,), 0, CODE_MAX, where)
        check("conductance_scale", self.conductance_scale, (CIRCUITS,), -1, 1, where)
        for name in ("connect_right", "connect_soma_right"):
            for half in range(HALVES):
                if getattr(self, name)[half * COLUMNS + COLUMNS - 1]:
                    raise OutOfRange(f"{name} of the last column is on", where=where, expected="a column to its right")
        both = np.flatnonzero(np.asarray(self.connect_soma, bool) & np.asarray(self.connect_conductance, bool))
        if both.size:
            raise OutOfRange(f"circuit {both[0]} is on its line directly and through a conductance", where=where,
                             expected="one of the two")  # fmt: skip

    def lines(self) -> NDArray[np.int64]:
        """(512,): the first circuit of each circuit's line."""
        first = np.arange(CIRCUITS)
        for circuit in np.flatnonzero(self.connect_soma_right):
            first[circuit + 1] = first[circuit]
        return first

    def membranes(self) -> NDArray[np.int64]:
        """(512,): the first of the circuits that share each circuit's membrane."""
        lines = self.lines()
        pairs = [(c, c + 1) for c in np.flatnonzero(self.connect_right).tolist()]
        pairs += [(c, c + COLUMNS) for c in np.flatnonzero(self.connect_vertical).tolist()]
        direct = np.flatnonzero(self.connect_soma)
        order = direct[np.argsort(lines[direct], kind="stable")]
        pairs += [(a, b) for a, b in zip(order.tolist(), order[1:].tolist(), strict=False) if lines[a] == lines[b]]
        return _together(pairs)

    def couplings(self, head: Integers) -> Coupling:
        """Who is coupled to whom, given the head of each circuit; what couples a membrane to itself is left out.

        Raises ``OutOfRange`` where a line has conductances but no membrane is on it directly.
        """
        lines, on = self.lines(), np.flatnonzero(self.connect_conductance)
        middle = np.full(CIRCUITS, -1, np.int64)
        direct = np.flatnonzero(self.connect_soma)
        middle[lines[direct]] = head[direct]
        lost = on[middle[lines[on]] < 0]
        if lost.size:
            raise OutOfRange(
                f"circuit {lost[0]} is coupled to a line that no membrane is on", where=_WHERE.format("switches"),
                expected="connect_soma for one compartment of each line",
            )  # fmt: skip
        one, other = middle[lines[on]], head[on].astype(np.int64)
        keep = one != other
        return Coupling(one[keep], other[keep], on[keep])

    def check_heads(self, head: Integers) -> None:
        """Raise ``OutOfRange`` where the circuits that share a membrane are not those that share a head."""
        membranes = self.membranes()
        first = np.full(CIRCUITS, CIRCUITS)
        np.minimum.at(first, head, np.arange(CIRCUITS))
        wrong = np.flatnonzero(first[head] != membranes)
        if wrong.size:
            raise OutOfRange(
                f"circuit {wrong[0]} has the head {head[wrong[0]]}, and its membrane is that of {membranes[wrong[0]]}",
                where=_WHERE.format("switches"), expected="one head for the circuits that are joined",
            )  # fmt: skip


def _together(pairs: list[tuple[int, int]]) -> NDArray[np.int64]:
    """(512,): the lowest circuit of all that the pairs connect each to."""
    top = list(range(CIRCUITS))

    def root(circuit: int) -> int:
        while top[circuit] != circuit:
            circuit = top[circuit]
        return circuit

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        top[high] = low
    return np.array([root(circuit) for circuit in range(CIRCUITS)])
