"""Where a network goes on a chip: circuits for neurons, rows and labels for synapses, addresses for events.

A signed weight is a pair of rows, one driver: 128 per circuit. A neuron with more fan-in takes two circuits of one
column, or more columns side by side. A driver may serve different sources in different columns: labels tell them
apart. Events from outside may take any driver; a neuron's own reach the drivers of its own bus only. Circuits that
failed their calibration are taken last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.allocation import Allocation, Source, Target
from spikeloop.chip.by_value import locked
from spikeloop.chip.configuration import CIRCUITS, COLUMNS, DRIVERS, HALVES, Flags, Routing
from spikeloop.chip.morphology import Form, form
from spikeloop.chip.receptors import lines_of
from spikeloop.chip.spots import choose_circuits
from spikeloop.chip.terms import Switches
from spikeloop.chip.wiring import senders_of
from spikeloop.errors import DoesNotFit, OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.neuron import Compartments
from spikeloop.plasticity.short_term import ShortTerm

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Placement:
    """A network's place on one chip.

    circuit: by population, (N, n): the circuits of each neuron, its head first.  address: by input, (N,), the 16-bit
    address of its events.  synapse: by projection, (R, N_source, N_target): the excitatory synapse, flat in (half, row,
    column), of each of R row pairs; the inhibitory one is 256 further on, in the next row.
    site: by `site_key`, (N, n): the circuits of each compartment, its head first.  switches: between compartments, None
    where there are none.  coupling: by population and pair of compartments, (N,): whose conductance couples them.
    """

    routing: Routing
    circuit: Mapping[str, Indices]
    address: Mapping[str, Indices]
    synapse: Mapping[str, Indices]
    site: Mapping[str, Indices]
    switches: Switches | None = None
    coupling: Mapping[tuple[str, str, str], Indices] = field(default_factory=dict)

    @cached_property
    def used(self) -> Flags:
        """(512,): circuits that are part of a neuron."""
        used = np.zeros(CIRCUITS, bool)
        for circuit in self.circuit.values():
            used[circuit] = True
        return used

    @cached_property
    def sender(self) -> Indices:
        """(2048,): the circuit that an event with these bits 0-10 is of."""
        return senders_of(self.routing)


Rows = int | Mapping[str, int]
"""How many row pairs each line of an input takes: of all inputs, or by input population (1 where it is not named)."""


def place(network: Network, rows_per_input: Rows = 1, bad: Flags | None = None) -> Placement:
    """A place for ``network`` on one chip; each input line takes ``rows_per_input`` row pairs.

    bad: (512,), circuits to use only where no others are left. The same arguments give the same place.

    Raises ``DoesNotFit``, naming the resource that is short, by how much, and what would help, and ``Unsupported``
    where the network has delays.
    """
    if isinstance(rows_per_input, int) and rows_per_input < 1:
        raise OutOfRange(f"rows_per_input is {rows_per_input}", expected="an integer of at least 1")
    refuse(network)
    forms = {name: _form(network, name, rows_per_input) for name in structured(network)}
    circuits = _circuits_per_neuron(network, rows_per_input, forms)
    circuit = choose_circuits(network, circuits, np.zeros(CIRCUITS, bool) if bad is None else bad, forms)
    site = dict(_sites(circuit, forms))
    allocation = Allocation({key: Target(of.shape[1]) for key, of in site.items()})
    sources = _sources(network, circuit, rows_per_input)
    allocation.assign(sources)
    return _placement(network, circuit, site, allocation, sources, forms)


def site_key(population: str, compartment: str) -> str:
    """How a compartment is called: that of a point neuron, and of its only one, as the population."""
    return f"{population}.{compartment}" if compartment else population


def structured(network: Network) -> list[str]:
    """The populations of several compartments."""
    return [name for name, p in network.populations.items() if p.kind is Compartments]


def refuse(network: Network) -> None:
    """Raise ``Unsupported`` where a projection has delays, or neurons have what no circuit of the twin has."""
    lines_of(network)
    made = network.standing().made
    if refuse not in made:
        _refuse_delays(network)
        made[refuse] = True


def _refuse_delays(network: Network) -> None:
    for name, projection in network.projections.items():
        delay = projection.delay.detach()
        if delay.numel() and bool((delay != 0).any()):
            raise Unsupported(
                f"delays of up to {float(delay.max()):g} s",
                where=f"projection {name}",
                expected="none: the chip's events arrive when they are sent",
                todo="Set delay=0, or run it on Ideal",
            )


def _rows(network: Network, name: str, rows_per_input: Rows) -> int:
    """Row pairs that a unit of population ``name`` takes as a source: one, if it is no input."""
    if network.populations[name].kind is not None:
        return 1
    return rows_per_input if isinstance(rows_per_input, int) else rows_per_input.get(name, 1)


def _fan_in(network: Network, name: str, rows_per_input: Rows, compartment: str | None = None) -> int:
    """Row pairs that a neuron of population ``name``, or one of its compartments, needs."""
    return sum(
        network.populations[p.source].size * _rows(network, p.source, rows_per_input)
        for p in network.projections.values()
        if p.target == name and compartment in (None, p.place[0])
    )


def _form(network: Network, name: str, rows_per_input: Rows) -> Form:
    """How a neuron of several compartments is put together."""
    structure = network.populations[name].structure
    assert structure is not None
    needed = {
        site.name: max(1, math.ceil(_fan_in(network, name, rows_per_input, site.name) / DRIVERS))
        for site in structure.sites
    }
    return form(needed, structure.couplings, structure.output, f"population {name!r}")


def _circuits_per_neuron(network: Network, rows_per_input: Rows, forms: Mapping[str, Form]) -> dict[str, int]:
    """How many circuits a neuron of each population takes: one, or pairs of one column; of several compartments, all
    circuits of their columns, or of one row of them.
    """
    needed: dict[str, int] = {}
    for name, population in network.populations.items():
        if name in forms:
            needed[name] = forms[name].width * (1 if forms[name].one_row else HALVES)
        elif population.kind is not None:
            count = math.ceil(_fan_in(network, name, rows_per_input) / DRIVERS)
            needed[name] = max(1, count) if count <= 1 else 2 * math.ceil(count / 2)
    total = sum(count * network.populations[name].size for name, count in needed.items())
    if total > CIRCUITS:
        parts = [
            f"{network.populations[name].size} neurons of {name!r} x {count} "
            f"(fan-in {_fan_in(network, name, rows_per_input)})"
            for name, count in needed.items()
        ]
        raise DoesNotFit(
            f"{total} neuron circuits are needed, {total - CIRCUITS} more than there are: {', '.join(parts)}",
            where="the chip",
            expected=f"at most {CIRCUITS}; a circuit has {DRIVERS} signed inputs, more take 2, 4, ... of them",
            todo="Take fewer neurons, fewer inputs or fewer rows_per_input, or split the network over several chips",
        )
    return needed


def _sites(circuit: Mapping[str, Indices], forms: Mapping[str, Form]) -> Iterator[tuple[str, Indices]]:
    """The circuits of every compartment, by `site_key`."""
    for name, of in circuit.items():
        if name not in forms:
            yield name, of
            continue
        order = forms[name].order
        for compartment, cells in forms[name].cells.items():
            yield site_key(name, compartment), of[:, [order.index(cell) for cell in cells]]


def _switches(
    circuit: Mapping[str, Indices], forms: Mapping[str, Form]
) -> tuple[Switches | None, dict[tuple[str, str, str], Indices]]:
    """What is switched on for all neurons, and whose conductance couples which compartments."""
    if not forms:
        return None, {}
    on = {name: np.zeros(CIRCUITS, bool) for name in ("right", "soma", "conductance", "line")}
    vertical, coupling = np.zeros(COLUMNS, bool), dict[tuple[str, str, str], Indices]()
    for name, of in circuit.items():
        if name not in forms:  # whole columns side by side
            if of.shape[1] > 1:
                vertical[of % COLUMNS] = True
                on["right"][of[:, :-2]] = True
            continue
        made, order = forms[name], forms[name].order
        flip, first = of[:, 0] // COLUMNS ^ order[0][0], of[:, 0] % COLUMNS - order[0][1]
        for what, cells in (("right", made.right), ("soma", made.direct), ("conductance", made.conductance),
                            ("line", made.line)):  # fmt: skip
            for row, column in cells:
                on[what][(row ^ flip) * COLUMNS + first + column] = True
        for column in made.vertical:
            vertical[first + column] = True
        for (row, column), pair in made.conductance.items():
            coupling[name, *pair] = (row ^ flip) * COLUMNS + first + column
    return Switches(on["right"], vertical, on["soma"], on["conductance"], on["line"]), coupling


def _sources(network: Network, circuit: Mapping[str, Indices], rows_per_input: Rows) -> dict[str, list[Source]]:
    """Who sends events, by population: neurons first, they have less choice."""
    made: dict[str, list[Source]] = {}
    order = sorted(network.populations.items(), key=lambda item: item[1].kind is None)
    for name, population in order:
        if not population.spiking:
            continue
        rows = _rows(network, name, rows_per_input)
        targets = tuple(site_key(p.target, p.place[0]) for p in network.projections.values() if p.source == name)
        outputs = [None] * population.size
        if name in circuit:
            outputs = (circuit[name][:, 0] % COLUMNS // (COLUMNS // 8)).tolist()
        made[name] = [
            Source(name, unit, rows, targets, output, _plastic(network, name, unit))
            for unit, output in enumerate(outputs)
        ]
    return made


def _plastic(network: Network, name: str, unit: int) -> tuple[object, ...]:
    """What the drivers of a unit are set to, by the projections from it; () where none is plastic."""
    size = network.populations[name].size
    found = [p.short_term if p.short_term is None else _setting(p.short_term, unit, size)
             for p in network.projections.values() if p.source == name]  # fmt: skip
    return tuple(found) if any(each is not None for each in found) else ()


def _setting(given: ShortTerm, unit: int, size: int) -> object:
    used, tau = (np.broadcast_to(given.each(what), size)[unit] for what in ("utilisation", "tau"))
    return float(used), float(tau), given.facilitating


def _placement(
    network: Network,
    circuit: Mapping[str, Indices],
    site: Mapping[str, Indices],
    allocation: Allocation,
    sources: Mapping[str, list[Source]],
    forms: Mapping[str, Form],
) -> Placement:
    label = np.zeros((HALVES, 2 * DRIVERS, COLUMNS), np.uint8)
    own, sends = np.zeros(CIRCUITS, np.uint8), np.zeros(CIRCUITS, bool)
    head = np.arange(CIRCUITS, dtype=np.int16)
    for of in site.values():
        head[of] = of[:, :1]
    synapse: dict[str, Indices] = {}
    taken: dict[str, int] = {}
    for name, projection in network.projections.items():
        nth = taken[projection.source] = taken.get(projection.source, -1) + 1
        at = site[site_key(projection.target, projection.place[0])]
        flat = [allocation.synapses(s, nth, at) for s in sources[projection.source]]
        synapse[name] = np.stack(flat, axis=1)
        labels = np.array([allocation.label[s] for s in sources[projection.source]], np.uint8)
        for flat_row in synapse[name]:
            for sign in (0, COLUMNS):
                label.reshape(-1)[flat_row + sign] = labels[:, None]
    address: dict[str, Indices] = {}
    for name, each in sources.items():
        words = np.array([allocation.address(s) for s in each], np.int64)
        if name in circuit:
            own[circuit[name][:, 0]], sends[circuit[name][:, 0]] = words & 0xFF, True
        else:
            address[name] = words
    switches, coupling = _switches(circuit, forms)
    routing = locked(allocation.routing(label, own, sends, head))
    return Placement(routing, circuit, address, synapse, site, switches, coupling)
