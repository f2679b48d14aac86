"""The page that benchmarks/twin.py writes: what stands in its lines, and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Line = dict[str, Any]

PUBLISHED = {
    "yin-yang": "chip 95.0 to 96 (reported, not verified)",
    "mnist": "chip 97.2 ± 0.1, software 97.5 ± 0.1 (surrogate)",
    "mnist-rotated": "chip 97.6 ± 0.1, software 98.0 ± 0.0 (surrogate)",
    "mnist-surrogate": "chip 97.2 ± 0.1, software 97.5 ± 0.1",
    "fashion-mnist": "chip 84.2 ± 0.2, software 85.5 ± 0.1 (surrogate)",
}
TASKS = {
    "yin-yang": "Yin-Yang 5-120-3, EventProp",
    "yin-yang-surrogate": "Yin-Yang 5-120-3 LI, SuperSpike",
    "mnist": "MNIST 16x16 256-246-10 LI, EventProp",
    "mnist-rotated": "MNIST 16x16 256-246-10 LI, rotated up to 15°, EventProp",
    "mnist-surrogate": "MNIST 16x16 256-246-10 LI, SuperSpike",
    "fashion-mnist": "Fashion-MNIST 16x16 256-246-10 LI, EventProp",
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

    def rows(self, lines: Sequence[Line]) -> list[str]:
        """The section of the page."""
        mine = [line for line in lines if line["experiment"] in self.experiments]
        title = " | ".join(self.cells)
        head = [f"| {title} |", "|" + "---|" * (title.count("|") + 1)]
        body = [
            "| " + " | ".join(cell(name, of) for cell in self.cells.values()) + " |" for name, of in self.groups(mine)
        ]
        return ["", f"## {self.title}", "", *([*head, *body] if mine else ["Not run yet."])]


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


# ---- groups --------------------------------------------------------------------------------------------------------


def by_task(lines: Sequence[Line]) -> Iterator[Group]:
    """In the order of `TASKS`."""
    found = ((name, [line for line in lines if line["experiment"] == name]) for name in TASKS)
    return ((name, mine) for name, mine in found if mine)


def by_way(lines: Sequence[Line]) -> Iterator[Group]:
    """In the order in which they were run."""
    ways = dict.fromkeys(line["way"] for line in lines)
    return ((way, [line for line in lines if line["way"] == way]) for way in ways)


def by_cosine(lines: Sequence[Line]) -> Iterator[Group]:
    """Way, estimate and layer: the cosine of each as a line's ``value``."""
    for way, mine in by_way(lines):
        for name in (name for name in mine[0] if name.startswith("cosine")):
            for layer in mine[0][name]:
                row = " | ".join([way, name.removeprefix("cosine, "), layer])
                yield row, [{"value": line[name][layer], "chip": line["chip"]} for line in mine]


def by_slope(lines: Sequence[Line]) -> Iterator[Group]:
    """Way, chip and layer: what was found along its mean gradient."""
    for line in (line for line in lines if "slopes" in line):
        for layer, slope in line["slopes"].items():
            yield f"{line['way']} | {line['chip']} | {layer}", [slope]


# ---- cells ---------------------------------------------------------------------------------------------------------


def called(name: str, _: Sequence[Line]) -> str:
    """The row's own name."""
    return name


def percent(key: str, way: str | None = None) -> Cell:
    """`spread` of ``key``, of the lines of one way only if there is one."""
    return lambda _, lines: spread([x for x in lines if way in (None, x["way"])], key)


def rounded(key: str, way: str | None = None) -> Cell:
    """`average` of ``key``, likewise."""
    return lambda _, lines: average([x for x in lines if way in (None, x["way"])], key)


def decimals(key: str, error: str | None = None) -> Cell:
    """The number ``key`` of a line, with its standard error."""
    return lambda _, lines: " ± ".join(f"{lines[0][what]:.3f}" for what in (key, error) if what is not None)


def epochs(_: str, lines: Sequence[Line]) -> str:
    """How many they were trained for."""
    return ", ".join(str(number) for number in sorted({line["epochs"] for line in lines}))


def growth(_: str, lines: Sequence[Line]) -> str:
    """By how much the error grows when neurons die."""
    factor = statistics.mean((1 - x["dead"]) / max(1 - x["test"], 1e-9) - 1 for x in lines)
    return f"{100 * factor:.0f} %"


DECALIBRATION: Mapping[str, Cell] = {
    "scattered": called,
    "in the loop": percent("test"),
    "transferred": percent("transferred"),
}
DEATH: Mapping[str, Cell] = {
    "training": called,
    "test": percent("test"),
    "with 15 % dead": percent("dead"),
    "error grows by": growth,
}
SPARSITY: Mapping[str, Cell] = {
    "with": called,
    "hidden spikes/test sample": lambda _, lines: f"{statistics.mean(line['hidden_spikes'] for line in lines):.1f}",
    "test": percent("test"),
    "epochs": epochs,
}

TABLES = (
    Table("Software, transferred, in the loop", TASKS, by_task, {
        "task": lambda name, _: TASKS[name],
        "software": percent("test", "software"),
        "transferred": percent("transferred", "software"),
        "in the loop": percent("test", "looped"),
        "published": lambda name, _: PUBLISHED.get(name, ""),
        "epochs": epochs,
        "spikes/sample in the loop": rounded("spikes_per_sample", "looped"),
        "seconds": rounded("seconds", "looped"),
    }),
    Table("Deliberate decalibration (Yin-Yang, EventProp)", ["decalibration"], by_way, DECALIBRATION),
    Table("Deliberate decalibration (MNIST 16x16, EventProp)", ["mnist-decalibration"], by_way, DECALIBRATION),
    Table("15 % of the hidden neurons fall silent after training (Yin-Yang, EventProp)", ["death"], by_way, DEATH),
    Table("15 % of the hidden neurons fall silent after training (MNIST 16x16, EventProp)", ["mnist-death"], by_way,
          DEATH),
    Table("The gradient estimate against the exact one, cosine per layer (Yin-Yang)", ["gradient"], by_cosine, {
        "when | estimate | layer": called,
        "cosine": lambda _, lines: f"{statistics.mean(line['value'] for line in lines):.3f}",
        "chips": lambda _, lines: chips(lines),
    }),
    Table("The mean loss along the mean gradient of 32 trials, per unit of weight: the gradient's norm, central "
          "differences over 32 other trials ± standard error, cosine of the mean gradients of every other trial",
          ["gradient"], by_slope, {
        "when | chip | layer": called, "gradient says": decimals("estimated"),
        "measured": decimals("measured", "error"), "halves": decimals("halves"),
    }),
    Table("Accuracy against spikes (Yin-Yang, EventProp)", ["sparsity"], by_way, SPARSITY),
    Table("Accuracy against spikes (MNIST 16x16, EventProp)", ["mnist-sparsity"], by_way, SPARSITY),
    Table("Accuracy against spikes (MNIST 16x16, SuperSpike)", ["mnist-surrogate-sparsity"], by_way, SPARSITY),
)  # fmt: skip


# ---- numbers -------------------------------------------------------------------------------------------------------


def spread(lines: Sequence[Line], key: str) -> str:
    """Mean, standard deviation and chips, in per cent."""
    values = [100 * line[key] for line in lines if key in line]
    if not values:
        return "not run"
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation} ({chips(lines)})"


def average(lines: Sequence[Line], key: str) -> str:
    """The mean, rounded; nothing for no lines."""
    return f"{statistics.mean(line[key] for line in lines):.0f}" if lines else ""


def chips(lines: Sequence[Line]) -> str:
    """Which chips, such as 0, 1, 2."""
    return ", ".join(str(chip) for chip in sorted({line["chip"] for line in lines}))
