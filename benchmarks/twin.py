"""Trainings on twins of chips: in software, transferred to a chip, and with the chip in the loop.

    python benchmarks/twin.py                                  # everything: many hours
    python benchmarks/twin.py yin-yang --chips 0 1             # some
    python benchmarks/twin.py --table                          # only write the table anew, and what docs/chip.md quotes

Every finished piece is a line of results/twin.jsonl, with date, commit, machine and command. What stands there with the
same settings is not done again, of several lines of a piece the last one counts, and a training that was stopped goes
on from its folder in runs/twin. Accuracies are those of the test set after the last epoch, at which the test set is
looked at once; settings were chosen with validation data and chips from 100 on. The seed of a training is the number of
the chip.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import twin_probes as probes
from accuracy import commit, machine
from twin_table import quoting, table

from spikeloop.tasks import FashionMNISTTask, MNISTTask, Task, YinYangTask

RESULTS = Path(__file__).parent / "results"
RUNS = Path("runs") / "twin"
LINES, TABLE = RESULTS / "twin.jsonl", RESULTS / "twin.md"
PAGE = Path(__file__).parents[1] / "docs" / "chip.md"
"""What quotes rows of the table."""

Line = dict[str, Any]

YIN_YANG = YinYangTask(hidden=(120,), neurons="slow", epochs=60)
IMAGES = MNISTTask(size=16, hidden=(246,), neurons="slow")
MNIST16 = dataclasses.replace(IMAGES, learning_rate=5e-3, epochs=20)
TASKS: dict[str, Task] = {
    "yin-yang": YIN_YANG,
    "mnist": MNIST16,
    "mnist-plain": dataclasses.replace(MNIST16, dropout=0.0),
    "mnist-rotated": dataclasses.replace(MNIST16, rotation=15.0),
    "yin-yang-surrogate": dataclasses.replace(YIN_YANG, rule="surrogate", neurons="fast"),
    "fashion-mnist": FashionMNISTTask(size=16, hidden=(246,), neurons="slow"),
    "mnist-surrogate": dataclasses.replace(IMAGES, rule="surrogate", neurons="fast", epochs=6),
    "mnist-rotated-surrogate": dataclasses.replace(IMAGES, rule="surrogate", neurons="fast", epochs=6, rotation=15.0),
    "fashion-mnist-surrogate": FashionMNISTTask(size=16, hidden=(246,), rule="surrogate", neurons="fast", epochs=6),
}
SPARSE: dict[str, tuple[Task, Sequence[float]]] = {
    "sparsity": (YIN_YANG, (5, 10, 20, 40)),
    "mnist-sparsity": (dataclasses.replace(IMAGES, rotation=15.0, dropout=0.05, epochs=36), (14, 27)),
    "mnist-surrogate-sparsity": (
        dataclasses.replace(IMAGES, rule="surrogate", neurons="fast", rotation=15.0, dropout=0.05),
        (5e-4, 1e-3, 1.25e-3, 2e-3),
    ),
}
"""What is trained, with which budgets of hidden spikes; with surrogate gradients, with which price on their counts."""
DISTURBED: dict[str, Task] = {
    "decalibration": YIN_YANG,
    "mnist-decalibration": MNIST16,
    "death": YIN_YANG,
    "mnist-death": MNIST16,
    "gradient": YIN_YANG,
    "sampling": TASKS["yin-yang-surrogate"],
}
PERIODS = (2e-6, 6e-6)
"""Chip seconds from one sample of the membranes to the next, where they are not as few as can be."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """What is done in one go: experiment, way and chip name it, ``do`` returns the rest of its line."""

    experiment: str
    way: str
    chip: int
    task: Task
    do: Callable[[], Line]

    def is_done(self, line: Line) -> bool:
        """Whether the line is of this piece as it is now: a task may have changed. Substrate and chip are the way's."""
        free = {"substrate", "chip"} | ({"epochs"} if self.experiment == "gradient" else set())
        now = json.loads(json.dumps(dataclasses.asdict(self.task)))
        same = all(now.get(name, value) == value for name, value in line["settings"].items() if name not in free)
        return same and key(line) == (self.experiment, self.way, self.chip)


def main(arguments: Sequence[str]) -> None:
    """Do what is asked for, then write the table."""
    names = [*TASKS, *DISTURBED, *SPARSE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", choices=[*names, []], help="all, if none is named")
    parser.add_argument("--ways", nargs="*", help="only these, such as looped")
    parser.add_argument("--chips", type=int, nargs="*", default=range(5))
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    command = " ".join(["python", "benchmarks/twin.py", *arguments])
    for name in [] if given.table else given.experiments or names:
        for piece in pieces(name, given.chips):
            if (given.ways is None or piece.way in given.ways) and not done(piece):
                write(piece, command)
    TABLE.write_text(table(shown()))
    PAGE.write_text(quoting(PAGE.read_text(), TABLE.read_text()))


def pieces(name: str, chips: Sequence[int]) -> Iterator[Piece]:
    """The parts of an experiment, chip after chip."""
    for chip in chips:
        task, budgets = SPARSE[name] if name in SPARSE else ((TASKS | DISTURBED)[name], ())
        for way, do, *more in _ways(name, budgets):
            folder = RUNS / "-".join([name, *way.split(), f"chip-{chip}"])
            yield Piece(name, way, chip, task, partial(do, task, *more, chip=chip, folder=folder))


def _ways(name: str, budgets: Sequence[float]) -> Iterator[tuple[Any, ...]]:
    """What each is called, who does it, and what with beside the task."""
    if name in TASKS:
        yield "looped", probes.looped
        yield "software", probes.software
    elif name in ("decalibration", "mnist-decalibration"):
        yield from ((way, probes.decalibrated, *of) for way, of in probes.DECALIBRATIONS.items())
    elif name in ("death", "mnist-death"):
        yield "dropout 0%", probes.dying, 0.0
        yield "dropout 40%, scaled in tests", probes.dying, 0.4
    elif name == "gradient":
        yield "before training", probes.estimated, 0
        yield "after 20 epochs", probes.estimated, 20
    elif name == "sampling":
        yield from ((f"every {1e6 * period:g} us", probes.sampled, period) for period in PERIODS)
    elif name == "mnist-surrogate-sparsity":
        yield from ((f"price {price:g}", probes.penalised, price) for price in budgets)
    else:
        yield from ((f"budget {budget}", probes.sparse, budget) for budget in budgets)


def finished() -> list[Line]:
    """All pieces done so far, the last line of each."""
    lines = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    return list({key(line): line for line in lines}.values())


def shown() -> list[Line]:
    """Those of the pieces as they are defined now, in the order of the definition. Others stay in the file only."""
    lines = finished()
    chips = sorted({line["chip"] for line in lines})
    every = [piece for name in (*TASKS, *DISTURBED, *SPARSE) for piece in pieces(name, chips)]
    return [line for piece in every for line in lines if piece.is_done(line)]


def key(line: Line) -> tuple[str, str, int]:
    """Which piece it is of."""
    return line["experiment"], line["way"], line["chip"]


def done(piece: Piece) -> bool:
    """Whether there is a line of it."""
    return any(piece.is_done(line) for line in finished())


def write(piece: Piece, command: str) -> None:
    """Do it, and keep what comes of it."""
    began = time.perf_counter()
    line = {"experiment": piece.experiment, "way": piece.way, "chip": piece.chip, **piece.do()}
    line |= {"total_seconds": time.perf_counter() - began, "date": datetime.now(UTC).date().isoformat()}
    line |= {"commit": commit(), "machine": machine(), "command": command}
    RESULTS.mkdir(exist_ok=True)
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps({name: value for name, value in line.items() if name not in ("settings", "machine")}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
