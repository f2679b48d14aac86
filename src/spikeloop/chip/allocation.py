"""Drivers and labels for the sources of events.

Row selects are compared without bits 2 and 3 (of a neuron's own event these tell its bus), so an event fires a group of
four drivers of each bus that it enters: there are eight groups. Sources that share a group have different labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import BUSES, COLUMNS, DRIVERS, HALVES, LABEL_MAX, LINKS, OUTPUTS, ROWS, Routing
from spikeloop.errors import DoesNotFit

Indices = NDArray[np.int64]

GROUPS = 8
DRIVER_MASK = 0b10011
PER_BUS = DRIVERS // BUSES
_MEMBERS = np.array([[d for d in range(PER_BUS) if (d & 3) | (d >> 4) << 2 == g] for g in range(GROUPS)])  # (8, 4)
EVERY_BUS, ONE_BUS = 0, 1
"""Links: events of the first enter all buses, of the second the bus that bits 11 and 12 name."""


@dataclass(frozen=True)
class Source:
    """A unit that sends events; output: which of the chip's eight it leaves by, None: it comes from outside.

    plastic: by target, what its drivers are set to, None: without short-term plasticity; () where all are.
    """

    population: str
    unit: int
    rows: int
    targets: tuple[str, ...]
    output: int | None
    plastic: tuple[object, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether no other source may fire its drivers."""
        return bool(self.plastic)


@dataclass(frozen=True)
class Target:
    """A compartment, or a point neuron: ``count`` circuits, among whose rows a source may choose."""

    count: int


@dataclass
class Allocation:
    """What is given to whom.

    free: by target, (circuit, bus, driver): row pairs not taken yet.  labels: (bus, group, label) taken.
    group, label, bus: of each source.  slots: of each source, for each of its targets the (circuit, bus, driver) of
    every row pair.  setting: by bus and driver, of sources that have drivers for themselves.
    """

    target: Mapping[str, Target]
    free: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    labels: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((BUSES, GROUPS, LABEL_MAX + 1), bool))
    group: dict[Source, int] = field(default_factory=dict)
    label: dict[Source, int] = field(default_factory=dict)
    buses: dict[Source, tuple[int, ...]] = field(default_factory=dict)
    slots: dict[Source, list[list[tuple[int, int, int]]]] = field(default_factory=dict)
    setting: dict[tuple[int, int], object] = field(default_factory=dict)
    sparing: bool = False

    def __post_init__(self) -> None:
        self.free = {name: np.ones((t.count, BUSES, PER_BUS), bool) for name, t in self.target.items()}
        self.labels[:, :, 0] = True  # what synapses answer to that nobody uses

    def assign(self, sources: Mapping[str, list[Source]]) -> None:
        """Give every source a group, a label and its row pairs."""
        inner = sum(len(each) for each in sources.values() if each and each[0].output is not None)
        outer = sum(len(each) for each in sources.values() if each and each[0].output is None)
        everywhere = outer <= GROUPS * (LABEL_MAX - -(-inner // (BUSES * GROUPS)))
        every = [source for each in sources.values() for source in each]
        self.sparing = any(source.alone for source in every)
        if self.sparing:
            every.sort(key=lambda source: (source.output is None, not source.alone))
        for source in every:
            self._give(source, everywhere)

    def _give(self, source: Source, everywhere: bool) -> None:
        buses, group = self._best(source, everywhere)
        taken = self.labels[list(buses), group].any(0)
        label = int(np.flatnonzero(~taken)[0])
        self.labels[list(buses), group, slice(None) if source.alone else label] = True
        self.group[source], self.label[source], self.buses[source] = group, label, buses
        self.slots[source] = [self._take(source, nth, buses, group) for nth in range(len(source.targets))]

    def _best(self, source: Source, everywhere: bool) -> tuple[tuple[int, ...], int]:
        """The buses and the group with most room; where some need groups for themselves, the fullest that will do, and
        one bus rather than all."""
        choices = self._choices(source, everywhere)
        room = np.array([self._room(source, buses, group) for buses, group in choices])
        if room.max() < 0:
            raise self._short(source)
        best = int(np.argmax(room))
        if self.sparing:
            buses = np.array([len(each) for each, _ in choices])
            best = int(np.lexsort((room, buses, room < 0))[0])
        return choices[best]

    def _choices(self, source: Source, everywhere: bool) -> list[tuple[tuple[int, ...], int]]:
        if source.output is not None:
            return [((source.output % BUSES,), source.output // BUSES << 2 | low) for low in range(4)]
        all_buses = [(tuple(range(BUSES)), group) for group in range(GROUPS)]
        single: list[tuple[tuple[int, ...], int]] = [((bus,), group) for group in range(GROUPS) for bus in range(BUSES)]
        if self.sparing:
            return single + all_buses
        return all_buses if everywhere else single

    def _room(self, source: Source, buses: tuple[int, ...], group: int) -> int:
        """Row pairs that are left for others in the tightest target; -1: they or the labels do not suffice."""
        taken = self.labels[list(buses), group]
        if taken.any(0).all() or (source.alone and taken[:, 1:].any()):
            return -1
        left = [self._places(name, buses, group).sum() - source.rows for name in source.targets]
        spare = int((~self.labels[list(buses), group].any(0)).sum())
        return max(int(min(left)), -1) if left else spare

    def _places(self, name: str, buses: tuple[int, ...], group: int) -> NDArray[np.bool_]:
        return self.free[name][:, list(buses)][:, :, _MEMBERS[group]]

    def _take(self, source: Source, nth: int, buses: tuple[int, ...], group: int) -> list[tuple[int, int, int]]:
        name = source.targets[nth]
        slots = [
            (int(p), buses[b], int(_MEMBERS[group][d])) for p, b, d in np.argwhere(self._places(name, buses, group))
        ]
        if source.alone:  # a driver is set to one thing for all that it reaches
            wanted = source.plastic[nth]
            slots = [slot for slot in slots if self.setting.get(slot[1:], wanted) == wanted]
            if len(slots) < source.rows:
                raise self._short(source)
            self.setting |= {slot[1:]: wanted for slot in slots[: source.rows]}
        for slot in slots[: source.rows]:
            self.free[name][slot] = False
        return slots[: source.rows]

    def _short(self, source: Source) -> DoesNotFit:
        waiting = f"unit {source.unit} of {source.population!r}"
        if source.alone:
            return DoesNotFit(
                f"no group of drivers is left for {waiting} alone, as its short-term plasticity needs one",
                where="the chip's synapse drivers",
                expected=f"at most {GROUPS * BUSES} such sources, 4 neurons of each of the eight outputs, and 4 row "
                "pairs of each for a circuit",
                todo="Take fewer of them, fewer rows_per_input, or short_term of fewer kinds",
            )
        if source.output is None:
            return DoesNotFit(
                f"no row pairs or labels are left for {waiting} ({source.rows} needed in one group of drivers)",
                where="the chip's synapse drivers",
                expected="at most 16 row pairs an input, and 63 labels a group",
                todo="Take fewer inputs or fewer rows_per_input",
            )
        bus = source.output % BUSES
        names = ", ".join(map(repr, source.targets))
        return DoesNotFit(
            f"{waiting} leaves the chip's array by bus {bus}, and no driver there is left for it to reach {names}",
            where="the chip's recurrent buses",
            expected="at most 16 neurons of each of the eight outputs reaching one circuit of a neuron",
            todo="Take fewer neurons that project on the chip, or fewer inputs, so that each neuron gets more circuits",
        )

    def address(self, source: Source) -> int:
        """16 bits for an event from outside; the circuit's own 8 bits for one from a neuron."""
        group, label = self.group[source], self.label[source]
        if source.output is not None:
            return (group & 3) << 6 | label
        select = group & 3 | group >> 2 << 4
        if len(self.buses[source]) == BUSES:
            return EVERY_BUS << 14 | select << 6 | label
        return ONE_BUS << 14 | self.buses[source][0] << 11 | select << 6 | label

    def synapses(self, source: Source, nth: int, circuit: Indices) -> Indices:
        """(R, N): the excitatory synapses from ``source`` to its ``nth`` target's neurons, circuits (N, n)."""
        rows: list[Indices] = []
        for place, bus, driver in self.slots[source][nth]:
            own = circuit[:, place]
            row = 2 * (bus * PER_BUS + driver)
            rows.append((own // COLUMNS * ROWS + row) * COLUMNS + own % COLUMNS)
        return np.stack(rows)

    def routing(
        self, label: NDArray[np.uint8], own: NDArray[np.uint8], sends: NDArray[np.bool_], head: NDArray[np.int16]
    ) -> Routing:
        """The chip's routing with these synapse labels and these events of the neurons."""
        link_mask = np.zeros((LINKS, 2 * BUSES), np.uint16)
        link_target = np.full((LINKS, 2 * BUSES), 0x3FFF, np.uint16)
        link_target[EVERY_BUS] = 0
        link_mask[ONE_BUS], link_target[ONE_BUS] = 3 << 11, np.tile(np.arange(BUSES), 2) << 11
        return Routing(
            label=label,
            row_sign=np.tile(np.array([1, -1], np.int8), (HALVES, DRIVERS)),
            driver_mask=np.full((HALVES, DRIVERS), DRIVER_MASK, np.uint8),
            link_mask=link_mask,
            link_target=link_target,
            output_mask=np.zeros((OUTPUTS, HALVES), np.uint16),
            output_target=np.zeros((OUTPUTS, HALVES), np.uint16),
            neuron_label=own,
            sends=sends,
            head=head,
        )
