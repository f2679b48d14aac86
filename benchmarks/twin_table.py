"""The page that benchmarks/twin.py writes: what stands in its lines, and nothing else."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twin_probes import DEATH, DEATHS, LEAST, MOST, PARAMETERS, SAMPLES, STEP, TRIALS

Line = dict[str, Any]

PUBLISHED = {
    "yin-yang": "chip 95.0 to 96 (reported, not verified)",
    **dict.fromkeys(("mnist", "mnist-plain", "mnist-surrogate"), "chip 97.2 ± 0.1, software 97.5 ± 0.1"),
    **dict.fromkeys(("mnist-rotated", "mnist-rotated-surrogate"), "chip 97.6 ± 0.1, software 98.0 ± 0.0"),
    **dict.fromkeys(("fashion-mnist", "fashion-mnist-surrogate"), "chip 84.2 ± 0.2, software 85.5 ± 0.1"),
}
TASKS = {
    "yin-yang": "Yin-Yang 5-120-3, EventProp",
    "yin-yang-surrogate": "Yin-Yang 5-120-3 LI, SuperSpike",
    "mnist": "MNIST 16x16 256-246-10 LI, EventProp",
    "mnist-plain": "MNIST 16x16 256-246-10 LI, EventProp, no dropout",
    "mnist-rotated": "MNIST 16x16 256-246-10 LI, rotated up to 15°, EventProp",
    "mnist-surrogate": "MNIST 16x16 256-246-10 LI, SuperSpike",
    "mnist-rotated-surrogate": "MNIST 16x16 256-246-10 LI, rotated up to 15°, SuperSpike",
    "fashion-mnist": "Fashion-MNIST 16x16 256-246-10 LI, EventProp",
    "fashion-mnist-surrogate": "Fashion-MNIST 16x16 256-246-10 LI, SuperSpike",
}


Group = tuple[str, Sequence[Line]]
"""What a row is called, and its lines."""
Cell = Callable[[str, Sequence[Line]], str]


@dataclass(frozen=True)
class Table:
    """A table of the lines of some experiments: one row for each of its groups, one column for each of its cells."""

    title: str
    experiments: Collection[str]
    groups: Callable[[Sequence[Line]], Iterable[Group]]
    cells: Mapping[str, Cell]
    note: str = ""

    def rows(self, lines: Sequence[Line]) -> list[str]:
        """The section of the page."""
        mine = [line for line in lines if line["experiment"] in self.experiments]
        title = " | ".join(self.cells)
        head = [f"| {title} |", "|" + "---|" * (title.count("|") + 1)]
        body = [
            "| " + " | ".join(cell(name, of) for cell in self.cells.values()) + " |" for name, of in self.groups(mine)
        ]
        note = [self.note, ""] if self.note and mine else []
        return ["", f"## {self.title}", "", *note, *([*head, *body] if mine else ["Not run yet."])]


PUBLISHED_NOTE = """\
Input dropout: the share of the input units that each training sample is shown without. Published of MNIST and
Fashion-MNIST: surrogate gradients, mean ± std of 5 seeds, with dropout where MNIST is rotated and without where it is
not (Cramer et al., PNAS 119(4), 2022, Table 1)."""

DECALIBRATION_NOTE = f"""\
The tau_mem, the tau_syn and the distance from leak to threshold of each circuit are calibrated to N(1, strength) times
what the network asks for, clipped to {LEAST:g} and {MOST:g} times and to the chip's ranges; training and transfer know
nothing of it. Spread left: the standard deviation that clipping left of those factors, over the circuits in use, mean
over chips."""

DEAD = f"{100 * DEATH:.0f} %"
DEATH_NOTE = f"""\
Dropout: the share of the hidden neurons whose event output is switched off in a training sample, others in each; in
tests all send, and weights from hidden to output are lowered as those of the training times the share that sent there.
Dead: mean of {DEATHS} draws."""

COSINE_NOTE = f"""\
The first {SAMPLES} training samples in one trial; exact: on Ideal with the same weights. Floor: the least slope at a
spike that the estimate divides by. On Ideal the estimate is the exact gradient, and on the twin the floor hardly
matters: neither is why a cosine is negative after training in the loop. The exact gradient is that of Ideal's loss at
weights that were trained for another loss, that of this chip with its mismatch: another working point. Whether the
twin's own loss rises along the estimate is what the next table shows: as much as the gradient says before training;
after 20 epochs, where gradients are small, chips differ by as much as is left of it."""

SLOPE_NOTE = f"""\
Per unit of weight, each layer by itself. The gradient is the mean of {TRIALS} trials on the twin: its norm, and the
cosine between the means of every other trial (halves). Measured: central differences ({STEP:g} to either side) of the
twin's loss, over {TRIALS} other trials, with the standard error of one chip."""


def table(lines: Sequence[Line]) -> str:
    """The results as a page."""
    rows = [
        "# Twins of chips",
        "",
        "Test accuracy after the last epoch, in per cent: mean ± std over chips (which).",
        "Simulated: twins with their default mismatch and noise, calibrated; no number here was measured on a chip.",
        "The same seed, the chip's number, chooses the first weights. Written by `benchmarks/twin.py`.",
    ]
    for each in TABLES:
        rows += each.rows(lines)
    if lines:
        dates, commits, machines = (sorted({x[key] for x in lines}) for key in ("date", "commit", "machine"))
        rows += ["", f"Dates: {', '.join(dates)}. Commits: {', '.join(commits)}."]
        rows += [f"Machines: {'; '.join(machines)}, shared; one thread. Command: `python benchmarks/twin.py`."]
    return "\n".join(rows) + "\n"


def quoting(page: str, results: str) -> str:
    """``page`` with the rows of ``results`` wherever it names a section of them."""
    sections = {part.partition("\n")[0]: re.findall(r"^\|.*\n", part, re.MULTILINE) for part in results.split("\n## ")}
    place = re.compile(r"(<!-- rows of twin\.md: (.*?) -->\n).*?(<!-- end of rows -->)", re.DOTALL)
    return place.sub(lambda found: "".join([found[1], *sections[found[2]], found[3]]), page)


# ---- groups --------------------------------------------------------------------------------------------------------


def by_task(lines: Sequence[Line]) -> Iterator[Group]:
    """In the order of `TASKS`."""
    found = ((name, [line for line in lines if line["experiment"] == name]) for name in TASKS)
    return ((name, mine) for name, mine in found if mine)


def by_way(lines: Sequence[Line]) -> Iterator[Group]:
    """In the order of the lines."""
    ways = dict.fromkeys(line["way"] for line in lines)
    return ((way, [line for line in lines if line["way"] == way]) for way in ways)


def by_spikes(lines: Sequence[Line]) -> Iterator[Group]:
    """From few spikes to many."""
    yield from sorted(by_way(lines), key=lambda group: statistics.mean(line["hidden_spikes"] for line in group[1]))


def by_layer(lines: Sequence[Line]) -> Iterator[Group]:
    """Way and layer: of each line what was found there, cosines and slopes alike."""
    for way, mine in by_way(lines):
        for layer in mine[0]["slopes"]:
            yield f"{way} | {layer}", [line | _of_layer(line, layer) for line in mine]


def _of_layer(line: Line, layer: str) -> Line:
    return {name: of[layer] for name, of in line.items() if name.startswith("cosine")} | line["slopes"][layer]


# ---- cells ---------------------------------------------------------------------------------------------------------


def called(name: str, _: Sequence[Line]) -> str:
    """The row's own name."""
    return name


def percent(key: str, way: str | None = None) -> Cell:
    """`spread` of ``key`` in per cent and its chips, of the lines of one way only if there is one."""

    def cell(_: str, lines: Sequence[Line]) -> str:
        mine = [line for line in lines if key in line and way in (None, line["way"])]
        return f"{spread([100 * line[key] for line in mine], 2)} ({chips(_, mine)})" if mine else "not run"

    return cell


def behind(_: str, lines: Sequence[Line]) -> str:
    """How far the loop is below software in the mean over the chips for which there are both, in points."""
    looped, software = (
        {line["chip"]: 100 * line["test"] for line in lines if line["way"] == way} for way in ("looped", "software")
    )
    both = looped.keys() & software.keys()
    return f"{statistics.mean(software[chip] - looped[chip] for chip in both):.2f}" if both else ""


def decimals(key: str) -> Cell:
    """`spread` of ``key``."""
    return lambda _, lines: spread([line[key] for line in lines], 3)


def mean(key: str, way: str | None = None, digits: int = 0) -> Cell:
    """The mean of ``key``, of the lines of one way only if there is one; nothing for no lines."""

    def cell(_: str, lines: Sequence[Line]) -> str:
        values = [line[key] for line in lines if way in (None, line["way"])]
        return f"{statistics.mean(values):.{digits}f}" if values else ""

    return cell


def chips(_: str, lines: Sequence[Line]) -> str:
    """Which chips, such as 0, 1, 2."""
    return ", ".join(str(chip) for chip in sorted({line["chip"] for line in lines}))


def epochs(_: str, lines: Sequence[Line]) -> str:
    """How many they were trained for."""
    return ", ".join(str(number) for number in sorted({line["epochs"] for line in lines}))


def dropout(_: str, lines: Sequence[Line]) -> str:
    """The share of the inputs that are silenced in training, for tasks that have it."""
    shares = {line["settings"].get("dropout", 0.0) for line in lines}
    return ", ".join(f"{100 * share:.0f} %" for share in sorted(shares) if share)


def left(way: str, lines: Sequence[Line]) -> str:
    """The spreads that the chip's ranges left of what was scattered, where they were noted down."""
    noted = [line["spread"] for line in lines if "spread" in line]
    names = [name for name in PARAMETERS if way.split(maxsplit=1)[0] in (name, "jointly")]
    return ", ".join(f"{name} {100 * statistics.mean(each[name] for each in noted):.0f} %" for name in names if noted)


def growth(_: str, lines: Sequence[Line]) -> str:
    """By how much the error grows when neurons die."""
    factor = statistics.mean((1 - x["dead"]) / max(1 - x["test"], 1e-9) - 1 for x in lines)
    return f"{100 * factor:.0f} %"


SCATTERED: Mapping[str, Cell] = {
    "scattered": called, "spread left": left, "in the loop": percent("test"), "transferred": percent("transferred"),
}  # fmt: skip
SILENCED: Mapping[str, Cell] = {
    "training": called, "test": percent("test"), f"with {DEAD} dead": percent("dead"), "error grows by": growth,
}  # fmt: skip
SPARSITY: Mapping[str, Cell] = {
    "with": called, "hidden spikes/test sample": mean("hidden_spikes", digits=1), "test": percent("test"),
    "epochs": epochs,
}  # fmt: skip
OF_IMAGES: Mapping[str, Cell] = SPARSITY | {"input dropout": dropout}

TABLES = (
    Table("Software, transferred, in the loop", TASKS, by_task, {
        "task": lambda name, _: TASKS[name],
        "input dropout": dropout,
        "software": percent("test", "software"),
        "transferred": percent("transferred", "software"),
        "in the loop": percent("test", "looped"),
        "points below software": behind,
        "published": lambda name, _: PUBLISHED.get(name, ""),
        "epochs": epochs,
        "spikes/sample in the loop": mean("spikes_per_sample", "looped", digits=1),
        "seconds": mean("seconds", "looped"),
    }, PUBLISHED_NOTE),
    Table("Deliberate decalibration (Yin-Yang, EventProp)", ["decalibration"], by_way, SCATTERED, DECALIBRATION_NOTE),
    Table("Deliberate decalibration (MNIST 16x16, EventProp)", ["mnist-decalibration"], by_way, SCATTERED),
    Table(f"{DEAD} of the hidden neurons fall silent after training (Yin-Yang, EventProp)", ["death"], by_way, SILENCED,
          DEATH_NOTE),
    Table(f"{DEAD} of the hidden neurons fall silent after training (MNIST 16x16, EventProp)", ["mnist-death"], by_way,
          SILENCED),
    Table("The gradient estimate against the exact one, cosine per layer (Yin-Yang)", ["gradient"], by_layer, {
        "when | layer": called,
        "floor 0": decimals("cosine, floor 0"),
        "floor 0.1": decimals("cosine, floor 0.1"),
        "floor 0.3": decimals("cosine, floor 0.3"),
        "floor 1": decimals("cosine, floor 1"),
        "on Ideal, floor 0.3": decimals("cosine, ideal, floor 0.3"),
        "chips": chips,
    }, COSINE_NOTE),
    Table("The mean loss along the mean gradient", ["gradient"], by_layer, {
        "when | layer": called,
        "gradient says": decimals("estimated"),
        "measured": decimals("measured"),
        "standard error": mean("error", digits=3),
        "halves": decimals("halves"),
        "chips": chips,
    }, SLOPE_NOTE),
    Table("Accuracy against spikes (Yin-Yang, EventProp)", ["sparsity"], by_spikes, SPARSITY),
    Table("Accuracy against spikes (MNIST 16x16, EventProp)", ["mnist-sparsity"], by_spikes, OF_IMAGES),
    Table("Accuracy against spikes (MNIST 16x16, SuperSpike)", ["mnist-surrogate-sparsity"], by_spikes, OF_IMAGES),
)  # fmt: skip


# ---- numbers -------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and, of several, standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"
