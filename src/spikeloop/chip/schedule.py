"""Which part of which matrix is multiplied when and where: tiles of matrices, laid into the halves of chips.

A schedule is data: `Entry` by `Entry`, a pass of a part of the array with all vectors of a batch. Entries of one step
run at once, on different halves; a layer begins when the one before it is done. Where everything fits, weights stay
where they were written. Else some halves keep theirs, and on the others pages of tiles take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from spikeloop.chip.array_cost import Cost, Work, cost_of
from spikeloop.chip.configuration import HALVES, whole
from spikeloop.chip.mac import HEIGHT, WIDTH
from spikeloop.errors import OutOfRange


@dataclass(frozen=True)
class Matrix:
    """What is to be multiplied: a layer.

    rows, columns: its size.  vectors: how many a sample has.  sends, wait: as in `ArrayPass`.
    """

    name: str
    rows: int
    columns: int
    vectors: int = 1
    sends: int = 1
    wait: int = 5

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "vectors", "sends", "wait"):
            whole(getattr(self, name), name, f"matrix {self.name!r}", 1)


@dataclass(frozen=True)
class Tile:
    """The part of a matrix that one pass multiplies: rows and columns from a first one up to before a last one."""

    layer: str
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns it takes."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


@dataclass(frozen=True)
class Entry(Tile):
    """A tile with its place and its time.

    chip, half, row, column: where its first weight lies.  step: when.  write: whether its weights have to be written
    before, in every run; else they are in the first only, and stay.
    """

    chip: int
    half: int
    row: int
    column: int
    step: int
    write: bool

    def overlaps(self, other: Entry) -> bool:
        """Whether the two take a synapse in common."""
        apart = any(
            first >= second + size2 or second >= first + size1
            for first, second, size1, size2 in zip(
                (self.row, self.column), (other.row, other.column), self.shape, other.shape, strict=True
            )
        )
        return (self.chip, self.half) == (other.chip, other.half) and not apart


@dataclass(frozen=True)
class Schedule:
    """The entries in the order of the layers, and of their steps."""

    matrices: tuple[Matrix, ...]
    chips: int
    entries: tuple[Entry, ...]

    def of(self, layer: str) -> list[Entry]:
        """The entries of one layer."""
        return [entry for entry in self.entries if entry.layer == layer]

    @property
    def steps(self) -> int:
        """How many there are, one after the other."""
        return max((entry.step for entry in self.entries), default=-1) + 1

    @property
    def rewritten(self) -> int:
        """Entries whose weights have to be written in every run."""
        return sum(entry.write for entry in self.entries)

    def cost(self, samples: int, written: Collection[Entry] | None = None) -> Cost:
        """What a run of ``samples`` takes; ``written``: the entries whose weights are, None: those that always are."""
        matrix = {each.name: each for each in self.matrices}
        again = {entry for entry in self.entries if entry.write} if written is None else set(written)
        work = [
            Work(e.step, e.chip, e.half, e.shape, m.vectors * samples, m.sends, m.wait, e in again)
            for e in self.entries
            for m in (matrix[e.layer],)
        ]
        return cost_of(work, samples, self.chips)

    def __str__(self) -> str:
        """A table of the entries."""
        width = max([5, *(len(each.name) for each in self.matrices)])
        stay = "weights stay" if not self.rewritten else f"{self.rewritten} are written in every run"
        lines = [
            f"{len(self.matrices)} layers in {len(self.entries)} passes, {self.steps} steps, on {self.chips} "
            f"chip{'s' if self.chips > 1 else ''}: {stay}",
            f"step  {'layer':{width}}  {'rows':>11}  {'columns':>11}  chip  half  row  column  write",
        ]
        for e in self.entries:
            rows, columns = ("{}-{}".format(first, stop - 1) for first, stop in (e.rows, e.columns))  # noqa: UP032
            lines.append(
                f"{e.step:4}  {e.layer:{width}}  {rows:>11}  {columns:>11}  {e.chip:4}  {e.half:4}  {e.row:3}  "
                f"{e.column:6}  {'always' if e.write else 'once'}"
            )
        return "\n".join(lines)


def partition(matrices: Sequence[Matrix], chips: int = 1, samples: int = 100) -> Schedule:
    """The schedule of the layers ``matrices``, in their order, for ``chips`` chips.

    Of those in which more or fewer halves keep their weights, the one that takes the least chip time for runs of
    ``samples``; if everything fits, all do.
    """
    whole(chips, "chips", "partition", 1)
    whole(samples, "samples", "partition", 1)
    names = Counter(each.name for each in matrices)
    double = next((name for name, number in names.items() if number > 1), None)
    if double is not None:
        raise OutOfRange(f"two layers are called {double!r}", where="partition", expected="a name for each")
    halves = list(product(range(chips), range(HALVES)))
    if (resident := _scheduled(matrices, chips, halves, [])) is not None:
        return resident
    found = (_scheduled(matrices, chips, halves[k:], halves[:k]) for k in range(1, len(halves) + 1))
    return min((each for each in found if each is not None), key=lambda each: each.cost(samples).chip_time)


def tiles(matrix: Matrix) -> list[Tile]:
    """The parts of a matrix, each of at most 128 x 256."""
    rows = [(k, min(k + HEIGHT, matrix.rows)) for k in range(0, matrix.rows, HEIGHT)]
    columns = [(k, min(k + WIDTH, matrix.columns)) for k in range(0, matrix.columns, WIDTH)]
    return [Tile(matrix.name, *part) for part in product(rows, columns)]


Half = tuple[int, int]
_Place = tuple[Half, int, int]  # half, row, column


def _scheduled(matrices: Sequence[Matrix], chips: int, kept: Sequence[Half], turned: Sequence[Half]) -> Schedule | None:
    """With weights that stay in the halves ``kept``, and pages that take turns in ``turned``; None if it has none of
    them and not everything fits."""
    every = [tile for matrix in matrices for tile in tiles(matrix)]
    place = _kept(every, kept)
    rest = [tile for tile in every if tile not in place]
    if rest and not turned:
        return None
    place |= _in_turns(rest, turned)
    return Schedule(tuple(matrices), chips, _marked(list(_timed(matrices, place))))


def _kept(every: Sequence[Tile], halves: Sequence[Half]) -> dict[Tile, _Place]:
    """Places for as many tiles as fit, the largest first; those of one layer on as many halves as there are."""
    pages = {half: _Page() for half in halves}
    busy: Counter[tuple[Half, str]] = Counter()
    place: dict[Tile, _Place] = {}
    for tile in sorted(every, key=lambda each: -each.shape[0] * each.shape[1]):
        for half in sorted(halves, key=lambda each: (busy[each, tile.layer], pages[each].filled)):
            if (at := pages[half].put(tile.shape)) is not None:
                place[tile] = (half, *at)
                busy[half, tile.layer] += 1
                break
    return place


def _in_turns(rest: Iterable[Tile], halves: Sequence[Half]) -> dict[Tile, _Place]:
    """Tiles in their order, page after page, always where the fewest have been."""
    pages = {half: [_Page()] for half in halves}
    number: Counter[Half] = Counter()
    place: dict[Tile, _Place] = {}
    for tile in rest:
        half = min(halves, key=lambda each: number[each])
        at = pages[half][-1].put(tile.shape)
        if at is None:
            pages[half].append(_Page())
            at = pages[half][-1].put(tile.shape)
        assert at is not None
        place[tile] = (half, *at)
        number[half] += 1
    return place


def _timed(matrices: Sequence[Matrix], place: dict[Tile, _Place]) -> Iterable[Entry]:
    """Layer after layer; on a half tile after tile."""
    begin = 0
    for matrix in matrices:
        taken: Counter[Half] = Counter()
        entries: list[Entry] = []
        for tile in tiles(matrix):
            half, row, column = place[tile]
            entries.append(Entry(tile.layer, tile.rows, tile.columns, *half, row, column, begin + taken[half], False))
            taken[half] += 1
        yield from sorted(entries, key=lambda each: (each.step, each.chip, each.half))
        begin += max(taken.values())


def _marked(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """With those marked to be written in every run that lie under others: what is there then is not theirs."""
    lost = {one for one in entries for other in entries if one is not other and one.overlaps(other)}
    return tuple(replace(entry, write=entry in lost) for entry in entries)


@dataclass
class _Page:
    """The free rectangles of a half: row, column, height, width."""

    free: list[tuple[int, int, int, int]] = field(default_factory=lambda: [(0, 0, HEIGHT, WIDTH)])
    filled: int = 0

    def put(self, shape: tuple[int, int]) -> tuple[int, int] | None:
        """Takes the free rectangle that fits best, and gives its corner; None if there is none."""
        height, width = shape
        fits = [each for each in self.free if each[2] >= height and each[3] >= width]
        if not fits:
            return None
        best = min(fits, key=lambda each: min(each[2] - height, each[3] - width))
        row, column, tall, wide = best
        self.free.remove(best)
        if tall - height > wide - width:  # the larger rest stays whole
            rests = [(row + height, column, tall - height, wide), (row, column + width, height, wide - width)]
        else:
            rests = [(row, column + width, tall, wide - width), (row + height, column, tall - height, width)]
        self.free += [each for each in rests if each[2] and each[3]]
        self.filled += height * width
        return row, column
