"""The numbers that issue 4 asks for, and what the lines of speed.jsonl say of each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from laws import LAWS

Line = dict[str, Any]
CHIP = 85_000  # images a second that the chip classifies (Cramer et al. 2022)


@dataclass(frozen=True)
class Floor:
    """What is measured, at least (or, where `most`, at most) how much of it is asked for, and how it is written."""

    what: str
    asked: float
    found: float | None
    unit: str = "{:.3g} x"
    most: bool = False

    @property
    def row(self) -> list[str]:
        """Of the table."""
        sign, said = ("at most" if self.most else "at least"), self.unit.format
        if self.found is None:
            return [self.what, f"{sign} {said(self.asked)}", "not measured", ""]
        met = self.found <= self.asked if self.most else self.found >= self.asked
        return [self.what, f"{sign} {said(self.asked)}", said(self.found), "yes" if met else "no"]


class Found:
    """Lines, by what they are about."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines

    def ours(self, workload: str, substrate: str = "ideal", threads: int = 2) -> Line | None:
        """In float32."""
        wanted = {"kind": "ours", "workload": workload, "substrate": substrate, "dtype": "float32", "threads": threads}
        return next((line for line in self.lines if all(line.get(k) == v for k, v in wanted.items())), None)

    def peers(self, workload: str) -> list[Line]:
        """On that workload."""
        return [line for line in self.lines if line["kind"] == "peer" and line["workload"] == workload]

    def rate(self, line: Line | None, phase: str) -> float | None:
        """Samples a second."""
        return None if line is None or phase not in line["rates"] else line["rates"][phase]["median"]

    def over_peers(
        self, workload: str, phase: str = "train", chosen: Callable[[Line], bool] = lambda line: True
    ) -> float | None:
        """Our training rate, written out or in `fit`, over that of the fastest peer."""
        theirs = [line["rates"]["train"]["median"] for line in self.peers(workload) if chosen(line)]
        return quotient(self.rate(self.ours(workload), phase), max(theirs, default=None))

    def over_ideal(self, substrate: str, threads: int) -> float | None:
        """The forward rate on a twin over that without one."""
        twin, ideal = (self.rate(self.ours("W2", where, threads), "inference") for where in (substrate, "ideal"))
        return quotient(twin, ideal)

    def over_one_thread(self, phase: str) -> float | None:
        """W2's rate on two threads over that on one."""
        return quotient(self.rate(self.ours("W2"), phase), self.rate(self.ours("W2", threads=1), phase))

    def leaner(self, workload: str, parts: Sequence[str]) -> float | None:
        """The memory of the leanest dense peer's training step over that of ours; "import", "step" or both."""
        theirs = [sum(line["memory"][part] for part in parts) for line in self.peers(workload) if line["dt"]]
        ours = self.ours(workload)
        return quotient(min(theirs, default=None), None if ours is None else sum(ours["memory"][p] for p in parts))

    def seconds(self, task: str) -> float | None:
        """The median over the seeds; a seed that never gets there counts as for ever."""
        mine = [line for line in self.lines if line["kind"] == "learning" and line["workload"] == task]
        times = [line["seconds"] if line["reached"] else float("inf") for line in mine]
        return statistics.median(times) if times else None

    def overhead(self, workload: str, phase: str) -> float | None:
        """Milliseconds of a step outside the engine."""
        line = self.ours(workload)
        return None if line is None or phase not in line["overhead"] else 1e3 * line["overhead"][phase]

    def growth(self, phase: str) -> float | None:
        """The most over the least cost of a synaptic event among all numbers of neurons."""
        names = next(law for law in LAWS if law.name == "neurons").workloads()
        mine = [line for line in self.lines if line["kind"] == "law" and line["workload"] in names]
        costs = [1 / line["rates"][phase]["median"] / line["synaptic_events"] for line in mine]
        return max(costs) / min(costs) if costs else None


def floors(lines: Sequence[Line]) -> Iterator[Floor]:
    """All of them."""
    found = Found(lines)
    chip, per_second = found.rate(found.ours("W2"), "inference"), "{:,.0f}/s"
    yield Floor("W2 forward, images", 3 * CHIP, chip, per_second)
    yield Floor("W2 forward, images: the goal", 460_000, chip, per_second)
    yield Floor("W2 training step, images, batches of 100", CHIP, found.rate(found.ours("W2"), "train"), per_second)
    many = found.rate(found.ours("W2"), "train many")
    yield Floor("the same in `fit`", CHIP, found.rate(found.ours("W2"), "fit"), per_second)
    yield Floor("the same in batches of 1000", CHIP, many, per_second)
    for threads, word in ((1, "one thread"), (2, "two threads")):
        yield Floor(f"W2 forward on the twin, over ideal, {word}", 1 / 4, found.over_ideal("twin", threads))
        yield Floor(f"the same without noise, {word}", 1 / 3, found.over_ideal("twin, no noise", threads))
    yield Floor("W2 training at 140 hidden spikes, over the fastest peer", 20, found.over_peers("W2-140"))
    yield Floor("the same in `fit`", 20, found.over_peers("W2-140", "fit"))
    jaxsnn = found.over_peers("W2-140", chosen=lambda line: line["peer"] == "jaxsnn")
    yield Floor("W2 training at 140 hidden spikes, over jaxsnn", 200, jaxsnn)
    yield Floor("W1 training, over the fastest peer", 5, found.over_peers("W1-LI"))
    yield Floor("the same in `fit`", 5, found.over_peers("W1-LI", "fit"))
    half = found.over_peers("W1-LI", "fit", lambda line: line["dt"] != 1e-3)
    yield Floor("the same in `fit`, over the fastest peer with steps of 0.5 ms", 5, half)
    yield Floor("W1 step in Python and torch, batch 100", 0.4, found.overhead("W1", "train"), "{:.2f} ms", most=True)
    yield Floor("the same in `fit`", 0.4, found.overhead("W1", "fit"), "{:.2f} ms", most=True)
    yield Floor("W4 training, over the fastest peer", 5, found.over_peers("W4"))
    yield Floor("ten times W2's input events, over the fastest peer", 5, found.over_peers("W2-inputs"))
    for name, spikes in (("W2", 20), ("W2-140", 140)):
        what = f"memory of a W2 step at {spikes} hidden spikes, leanest dense peer over ours"
        yield Floor(what, 20, found.leaner(name, ["step"]))
        yield Floor("the same, what importing the packages takes included", 20, found.leaner(name, ["import", "step"]))
    yield Floor("W2 forward on two threads, over one", 1.85, found.over_one_thread("inference"))
    yield Floor("W2 training step on two threads, over one", 1.85, found.over_one_thread("train"))
    yield Floor("the same in `fit`", 1.85, found.over_one_thread("fit"))
    yield Floor("the same in batches of 1000", 1.85, found.over_one_thread("train many"))
    yield Floor("Yin-Yang to 97 %, one core, median", 2.0, found.seconds("yin-yang"), "{:.2f} s", most=True)
    yield Floor("MNIST 16x16 to 97.0 %, two cores, median", 30.0, found.seconds("mnist"), "{:.1f} s", most=True)
    yield Floor("synaptic event, 128 to 4096 neurons, dearest over cheapest", 1.5, found.growth("inference"), most=True)


def quotient(above: float | None, below: float | None) -> float | None:
    """None where either is not known."""
    return None if above is None or below is None else above / below
