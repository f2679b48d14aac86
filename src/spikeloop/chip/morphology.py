"""Trees of compartments as the chip's switches form them.

Every circuit has a membrane and a piece of its row's shared line. Switches join membranes of neighbours (to the right,
or the two of a column) into one compartment; pieces of line to the right into a longer one; and a membrane to its
piece, directly or through a conductance. So a line couples one compartment, which is on it directly, to others, each
through a conductance of its own, and a compartment has a circuit for every line that it is on. There are two rows, and
lines of one row cannot overlap: what is left of a branch behind another one must find a free row (hardware.md 1.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spikeloop.errors import Unsupported

Cell = tuple[int, int]
"""Row (0 or 1) and column."""
Coupling = tuple[str, str]
ROWS = 2


@dataclass
class Form:
    """Switches for one neuron, in cells from column 0 on.

    cells: by compartment, its circuits.  direct: cells whose membranes are on their line.  conductance: cells whose
    membranes are coupled to it, and which coupling that is.  line, right: cells whose line, whose membrane, is joined
    to that of the next column.  vertical: columns whose two membranes are joined.  width: columns.  order: all cells,
    those of the output first.
    """

    cells: dict[str, list[Cell]] = field(default_factory=dict)
    direct: set[Cell] = field(default_factory=set)
    conductance: dict[Cell, Coupling] = field(default_factory=dict)
    line: set[Cell] = field(default_factory=set)
    right: set[Cell] = field(default_factory=set)
    vertical: set[int] = field(default_factory=set)
    width: int = 0
    order: list[Cell] = field(default_factory=list)

    @property
    def one_row(self) -> bool:
        """Whether it leaves one row free."""
        return len({row for row, _ in self.order}) == 1


class _NoRoom(Exception):
    """A branch needs a line where both rows have one."""


def form(
    circuits: Mapping[str, int], couplings: Sequence[Coupling], output: str = "", where: str = "the neuron"
) -> Form:
    """The narrowest form that is found of a tree of compartments, each with at least so many circuits.

    output: the compartment that sends, by default the first.

    Raises ``Unsupported`` where no order of the branches gives every compartment with several neighbours a line.
    """
    found: list[Form] = []
    for root in circuits:
        try:
            made = _Layout(circuits, couplings)
            made.place(root, None, 0, frozenset())
            found.append(made.form)
        except _NoRoom:
            continue
    if not found:
        worst = max(circuits, key=lambda name: sum(name in pair for pair in couplings))
        raise Unsupported(
            f"no form of the chip's switches was found for its tree of {len(circuits)} compartments: {worst!r} and "
            "others branch while lines of both rows already pass them, with every branch laid to the right",
            where=where,
            expected="a tree whose branches fit between two rows of circuits: chains, stars, and stars along a chain",
            todo="Take fewer branches that branch again, or run it on Ideal",
        )
    best = min(found, key=lambda each: each.width)
    first = output or next(iter(circuits))
    best.order = [*best.cells[first], *(cell for name, cells in best.cells.items() if name != first for cell in cells)]
    return best


class _Layout:
    """Compartments from left to right, a branch after the other, the one that branches most at the end."""

    def __init__(self, circuits: Mapping[str, int], couplings: Sequence[Coupling]) -> None:
        self.circuits = circuits
        self.coupling = {frozenset(pair): pair for pair in couplings}
        self.near: dict[str, list[str]] = {name: [] for name in circuits}
        for one, other in couplings:
            self.near[one].append(other)
            self.near[other].append(one)
        self.form = Form()
        self.above: dict[str, str] = {}

    def place(self, name: str, row: int | None, column: int, busy: frozenset[int]) -> int:
        """Put ``name`` on the line of ``row`` (None: the root) at ``column``, and its branches behind it.

        busy: rows whose lines go on behind all that.  Gives the next free column.
        """
        branches = sorted(
            (each for each in self.near[name] if each != self.above.get(name)), key=lambda b: self._need(b, name)
        )
        own = self._line_row(row, busy) if branches else row
        columns = max(1, math.ceil(self.circuits[name] / ROWS))
        if branches and own == row:
            columns = max(2, columns)  # a circuit on each of two lines of the same row
        last = column + columns - 1
        self._join(name, self._cells(name, row, own, column, last))
        if row is not None:
            self.form.conductance[row, column] = self.coupling[frozenset((name, self.above[name]))]
        self.form.width = max(self.form.width, last + 1)
        if not branches:
            return last + 1
        assert own is not None
        self.form.direct.add((own, last))
        return self._branch(name, branches, own, last, busy)

    def _branch(self, name: str, branches: list[str], row: int, start: int, busy: frozenset[int]) -> int:
        column = start + 1
        for each in branches:
            self.above[each] = name
            self.form.line |= {(row, c) for c in range(start, column)}
            goes_on = busy if each == branches[-1] else busy | {row}
            column = self.place(each, row, column, goes_on)
        return column

    def _line_row(self, row: int | None, busy: frozenset[int]) -> int:
        """The row of a new line, which begins where the one on ``row`` ends, or on the other row."""
        order = range(ROWS) if row is None else (1 - row, row)
        free = [each for each in order if each not in busy]
        if not free:
            raise _NoRoom
        return free[0]

    def _need(self, name: str, above: str) -> tuple[int, int]:
        """How often it branches anew, and how large it is."""
        below = [self._need(each, name) for each in self.near[name] if each != above]
        depth = 1 + max(deep for deep, _ in below) if below else 0
        return depth, 1 + sum(size for _, size in below)

    def _cells(self, name: str, row: int | None, own: int | None, first: int, last: int) -> list[Cell]:
        if self.circuits[name] > 1:
            return [(each, column) for column in range(first, last + 1) for each in range(ROWS)]
        start = 0 if row is None and own is None else own if row is None else row
        assert start is not None
        found = [(start, column) for column in range(first, last + 1)]
        return found if own in (None, start) else [*found, (own, last)]  # type: ignore[list-item]

    def _join(self, name: str, cells: list[Cell]) -> None:
        self.form.cells[name] = cells
        inside = set(cells)
        self.form.right |= {(row, column) for row, column in cells if (row, column + 1) in inside}
        self.form.vertical |= {column for row, column in cells if row == 0 and (1, column) in inside}
