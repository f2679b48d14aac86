"""The page that benchmarks/speed.py writes: what stands in its lines, and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from floors import floors

Line = dict[str, Any]

PHASES = {
    "inference": "forward, many at once",
    "forward": "forward",
    "gradient": "forward + backward",
    "train": "training step",
    "fit": "step of `fit`",
    "train many": "training step, many at once",
}
HEAD = """# Speed

Written by `benchmarks/speed.py`, from `speed.jsonl`. What the columns mean is told in
[docs/performance.md](../../docs/performance.md).
Every line is a process of its own, pinned to as many cores as it has threads; rates are medians of rounds."""
OURS = (
    "workload", "where", "numbers", "threads", "events", "hidden spikes", *PHASES.values(), "bare sweep", "with solves",
    "share of the sweep", "synaptic events/s", "Python and torch in a step", "memory: import + step",
)  # fmt: skip
PEERS = (
    "workload", "program", "version", "time step", "hidden spikes", "forward", "training step", "ours is faster",
    "memory: import + step", "our step is leaner",
)  # fmt: skip


def table(lines: Sequence[Line]) -> str:
    """The results as a page."""
    ours = sorted((line for line in lines if line["kind"] == "ours"), key=lambda line: (*key(line), line["threads"]))
    peers = [line for line in lines if line["kind"] == "peer"]
    of_machine = next((line for line in lines if line["kind"] == "machine"), None)
    parts = [
        HEAD,
        f"\n## Numbers to reach\n\n{summary(lines)}",
        _machine(of_machine),
        _rates(ours, of_machine),
        _where(ours, of_machine),
        _threads(ours),
        _peers(peers, ours),
    ]
    parts += [_learning([line for line in lines if line["kind"] == "learning"]), _foot(lines)]
    return "\n".join(part for part in parts if part) + "\n"


def summary(lines: Sequence[Line]) -> str:
    """What was asked for and what came of it."""
    return grid(("", "asked for", "measured", "reached"), (floor.row for floor in floors(lines)))


def _machine(line: Line | None) -> str:
    """What one core can do."""
    if line is None:
        return ""
    rows = [[t, f"{line[t]['peak'] / 1e9:.0f} G/s", f"{line[t]['share']:.0%} of it"] for t in ("float32", "float64")]
    body = grid(("numbers", "multiply-adds in registers", "bare sweep, weights in L1"), rows)
    if solve := line.get("solve"):
        full, alone = (1e9 * solve[key] for key in ("full", "alone"))
        body += f"\n\nOne exact crossing: {full:.0f} ns in a full vector of eight, {alone:.0f} ns alone in a vector."
    return f"\n## One core\n\n{body}"


def _rates(ours: Sequence[Line], of_machine: Line | None) -> str:
    """Samples a second, a row for each setting, and how much rounds differ."""
    if not ours:
        return ""
    solve = (of_machine or {}).get("solve", {}).get("full")
    body = grid(OURS, (_rate(line, solve) for line in ours))
    widths = sorted((rate["high"] - rate["low"]) / rate["median"] for line in ours for rate in line["rates"].values())
    spread = f"{statistics.median(widths):.1%} of the median apart in half of the cases, {widths[-1]:.0%} at the worst"
    others = f"Others used {max(line['others'] for line in ours):.2f} of the cores at the most meanwhile"
    return f"\n## Samples per second\n\n{body}\n\nThe quartiles of the rounds lie {spread}. {others}."


def _rate(line: Line, solve: float | None) -> list[str]:
    rates, sweep = {phase: line["rates"][phase]["median"] for phase in line["rates"]}, line["roofline"]["sweep"]
    cells = [*key(line), str(line["threads"]), f"{line['events']:.0f}", spikes(line)]
    cells += [*(short(rates[phase]) if phase in rates else "" for phase in PHASES), short(sweep)]
    cells.append("" if solve is None else short(with_solves(line, solve)))
    cells += [f"{rates['inference'] / sweep:.1%}", short(rates["inference"] * line["synaptic_events"])]
    return [*cells, f"{1e3 * line['overhead']['train']:.2f} ms", memory(line)]


def with_solves(line: Line, solve: float) -> float:
    """Samples a second of the bare sweep and one full-vector solve per spike."""
    crossings = sum(line["spikes"]) + line["output_spikes"]
    return 1 / (1 / line["roofline"]["sweep"] + crossings * solve / line["threads"])


def _where(ours: Sequence[Line], of_machine: Line | None) -> str:
    """Microseconds of a sample in a training step, one thread."""
    solve = (of_machine or {}).get("solve", {}).get("full")
    lines = [
        line for line in ours if line["threads"] == 1 and line["substrate"] == "ideal" and line["dtype"] == "float32"
    ]
    if solve is None or not lines:
        return ""
    columns = (
        "workload",
        "training step",
        "bare sweep",
        "crossings",
        "rest of forward",
        "backward",
        "Python and torch",
    )
    rows = [[line["workload"], *(f"{1e6 * part:.2f}" for part in _seconds(line, solve))] for line in lines]
    what = "Microseconds of a sample in a training step, one thread, float32. The first is measured as a whole."
    return f"\n## Where the time goes\n\n{what}\n\n{grid(columns, rows)}"


def _seconds(line: Line, solve: float) -> list[float]:
    """Of a sample: all, sweep, crossings, what else the engine does forward, its backward, Python and torch."""
    native = {
        phase: 1 / line["rates"][phase]["median"] - line["overhead"][phase] / line["batch"]
        for phase in ("forward", "gradient")
    }
    sweep, crossings = 1 / line["roofline"]["sweep"], (sum(line["spikes"]) + line["output_spikes"]) * solve
    rest = native["forward"] - sweep - crossings
    backward = native["gradient"] - native["forward"]
    outside = line["overhead"]["train"] / line["batch"]
    return [1 / line["rates"]["train"]["median"], sweep, crossings, rest, backward, outside]


def _threads(ours: Sequence[Line]) -> str:
    """Two threads against one."""
    two = {key(line): line for line in ours if line["threads"] == 2}
    pairs = [(line, two[key(line)]) for line in ours if line["threads"] == 1 and key(line) in two]
    if not pairs:
        return ""
    rows = []
    for before, after in pairs:
        gains = [gain(before["rates"], after["rates"], phase) for phase in PHASES]
        rows.append([*key(before), *gains, "yes" if before["digest"] == after["digest"] else "no"])
    body = grid(("workload", "where", "numbers", *PHASES.values(), "identical"), rows)
    return f"\n## Two threads\n\nRate on two over rate on one; spikes and gradients compared bit by bit.\n\n{body}"


def gain(before: Line, after: Line, phase: str) -> str:
    """One rate over another, nothing where one was not measured."""
    known = phase in before and phase in after
    return f"{after[phase]['median'] / before[phase]['median']:.2f}" if known else ""


def _peers(peers: Sequence[Line], ours: Sequence[Line]) -> str:
    """Peers beside us, workload by workload, the fastest first."""
    rows = list[list[str]]()
    for workload in dict.fromkeys(line["workload"] for line in peers):
        same = [line for line in ours if key(line) == (workload, "ideal", "float32") and line["threads"] == 2]
        rows += [_peer(line | {"peer": "**spikeloop**", "version": "this", "dt": None}, None) for line in same]
        mine = [line for line in peers if line["workload"] == workload]
        for line in sorted(mine, key=lambda line: -line["rates"]["train"]["median"]):
            rows.append(_peer(line, same[0] if same else None))
    what = "Two threads, float32; the same data and network, weights scaled to the same number of hidden spikes."
    return f"\n## Peers\n\n{what}\n\n{grid(PEERS, rows)}" if rows else ""


def _peer(line: Line, ours: Line | None) -> list[str]:
    step = f"{1e3 * line['dt']:g} ms" if line["dt"] else "none"
    rates = [short(line["rates"][phase]["median"]) for phase in ("forward", "train")]
    faster = leaner = ""
    if ours is not None:
        faster = f"{ours['rates']['train']['median'] / line['rates']['train']['median']:.1f} x"
        leaner = f"{line['memory']['step'] / ours['memory']['step']:.1f} x"
    cells = [line["workload"], line["peer"], line["version"], step, spikes(line)]
    return [*cells, *rates, faster, memory(line), leaner]


def _learning(lines: Sequence[Line]) -> str:
    """Seconds to an accuracy, over the seeds."""
    columns = (
        "task",
        "threads",
        "seeds",
        "median",
        "fastest",
        "slowest",
        "floor",
        "epochs",
        "reached by",
        "test accuracy",
    )
    rows = list[list[str]]()
    for name in dict.fromkeys(line["workload"] for line in lines):
        mine = [line for line in lines if line["workload"] == name]
        seconds = [line["seconds"] if line["reached"] else float("inf") for line in mine]
        times = [f"{each:.1f} s" for each in (statistics.median(seconds), min(seconds), max(seconds), mine[0]["floor"])]
        epochs = sorted(line["epochs"] for line in mine)
        test = statistics.mean(line["test"] for line in mine)
        ends = f"{epochs[0]} to {epochs[-1]}" if epochs[0] < epochs[-1] else f"{epochs[0]}"
        reached = f"{sum(line['reached'] for line in mine)} of {len(mine)}"
        rows.append([mine[0]["what"], str(mine[0]["threads"]), str(len(mine)), *times, ends, reached, f"{test:.2%}"])
    what = "Imports excluded; data, encoding and every look at the validation set included. Recipes: suite/learning.py."
    return f"\n## Time to an accuracy\n\n{what}\n\n{grid(columns, rows)}" if rows else ""


def _foot(lines: Sequence[Line]) -> str:
    parts = []
    for name, what in (("Dates", "date"), ("Commits", "commit"), ("Machines", "machine"), ("Commands", "command")):
        parts.append(f"{name}: {', '.join(sorted({str(line[what]) for line in lines}))}.")
    return "\n" + " ".join(parts) if lines else ""


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join(_bars([columns, ["---"] * len(columns), *rows]))


def _bars(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def key(line: Line) -> tuple[str, str, str]:
    """What is run where, but for the threads."""
    return line["workload"], line["substrate"], line["dtype"]


def spikes(line: Line) -> str:
    """Of every hidden layer, per sample."""
    return " + ".join(f"{count:.0f}" if count >= 10 else f"{count:.1f}" for count in line["spikes"])


def memory(line: Line) -> str:
    """What importing the package takes, and what the step takes on top."""
    return " + ".join(f"{line['memory'][part] / 1e6:.1f}" for part in ("import", "step")) + " MB"


def short(rate: float) -> str:
    """Such as 12.3 k or 1.20 M."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if rate >= unit:
            return f"{rate / unit:.3g}{name}"
    return f"{rate:.3g}"
