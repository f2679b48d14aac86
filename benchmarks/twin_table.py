"""The page that benchmarks/twin.py writes: what stands in its lines, and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

Line = dict[str, Any]

PUBLISHED = {
    "yin-yang": "chip 95.0 to 96 (reported, not verified)",
    "mnist": "chip 97.2 ± 0.1, software 97.5 ± 0.1 (surrogate)",
    "mnist-surrogate": "chip 97.2 ± 0.1, software 97.5 ± 0.1",
    "fashion-mnist": "chip 84.2 ± 0.2, software 85.5 ± 0.1 (surrogate)",
}
TASKS = {
    "yin-yang": "Yin-Yang 5-120-3, EventProp",
    "yin-yang-surrogate": "Yin-Yang 5-120-3 LI, SuperSpike",
    "mnist": "MNIST 16x16 256-246-10 LI, EventProp",
    "mnist-surrogate": "MNIST 16x16 256-246-10 LI, SuperSpike",
    "fashion-mnist": "Fashion-MNIST 16x16 256-246-10 LI, EventProp",
}


def table(lines: Sequence[Line]) -> str:
    """The results as a page."""
    rows = [
        "# Twins of chips",
        "",
        "Test accuracy after the last epoch, in per cent: mean ± std over chips (which).",
        "Simulated: twins with their default mismatch and noise, calibrated; no number here was measured on a chip.",
        "The same seed, the chip's number, chooses the first weights. Written by `benchmarks/twin.py`.",
        *_section("Software, transferred, in the loop", _ways, [x for x in lines if x["experiment"] in TASKS]),
    ]
    for name, title, make in (
        ("decalibration", "Deliberate decalibration (Yin-Yang, EventProp)", _decalibration),
        ("death", "15 % of the hidden neurons fall silent after training (Yin-Yang, EventProp)", _death),
        ("gradient", "The gradient estimate against the exact one, cosine per layer (Yin-Yang)", _gradient),
        ("sparsity", "Accuracy against spikes (Yin-Yang, EventProp)", _sparsity),
    ):
        rows += _section(title, make, [line for line in lines if line["experiment"] == name])
    if lines:
        dates, commits, machines = (sorted({x[key] for x in lines}) for key in ("date", "commit", "machine"))
        rows += ["", f"Dates: {', '.join(dates)}. Commits: {', '.join(commits)}."]
        rows += [f"Machines: {'; '.join(machines)}, shared; one thread. Command: `python benchmarks/twin.py`."]
    return "\n".join(rows) + "\n"


def _section(title: str, make: Callable[[Sequence[Line]], list[str]], lines: Sequence[Line]) -> list[str]:
    body = make(lines) if lines else ["Not run yet."]
    return ["", f"## {title}", "", *body]


def _ways(lines: Sequence[Line]) -> list[str]:
    rows = [
        "| task | software | transferred | in the loop | published | epochs | spikes/sample in the loop | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, what in TASKS.items():
        mine = [line for line in lines if line["experiment"] == name]
        soft, loop = ([line for line in mine if line["way"] == way] for way in ("software", "looped"))
        if mine:
            means = [spread(soft, "test"), spread(soft, "transferred"), spread(loop, "test")]
            epochs = ", ".join(sorted({str(line["epochs"]) for line in mine}))
            rest = [PUBLISHED.get(name, ""), epochs, average(loop, "spikes_per_sample"), average(loop, "seconds")]
            rows.append("| " + " | ".join([what, *means, *rest]) + " |")
    return rows


def _decalibration(lines: Sequence[Line]) -> list[str]:
    rows = ["| scattered | in the loop | transferred |", "|---|---|---|"]
    for way in dict.fromkeys(line["way"] for line in lines):
        mine = [line for line in lines if line["way"] == way]
        rows.append(f"| {way} | {spread(mine, 'test')} | {spread(mine, 'transferred')} |")
    return rows


def _death(lines: Sequence[Line]) -> list[str]:
    rows = ["| training | test | with 15 % dead | error grows by |", "|---|---|---|---|"]
    for way in dict.fromkeys(line["way"] for line in lines):
        mine = [line for line in lines if line["way"] == way]
        growth = statistics.mean((1 - x["dead"]) / max(1 - x["test"], 1e-9) - 1 for x in mine)
        rows.append(f"| {way} | {spread(mine, 'test')} | {spread(mine, 'dead')} | {100 * growth:.0f} % |")
    return rows


def _gradient(lines: Sequence[Line]) -> list[str]:
    rows = ["| when | estimate | layer | cosine | chips |", "|---|---|---|---|---|"]
    for way in dict.fromkeys(line["way"] for line in lines):
        mine = [line for line in lines if line["way"] == way]
        for name in (name for name in mine[0] if name.startswith("cosine")):
            for layer in mine[0][name]:
                values = [line[name][layer] for line in mine]
                said = f"{statistics.mean(values):.3f}"
                rows.append(f"| {way} | {name.removeprefix('cosine, ')} | {layer} | {said} | {chips(mine)} |")
    return rows + _slopes([line for line in lines if "slopes" in line])


def _slopes(lines: Sequence[Line]) -> list[str]:
    """Along the mean gradient, chip by chip."""
    rows = [
        "",
        "The loss along the mean gradient of 32 trials, per unit of weight: as the gradient says (its norm), and by",
        "central differences of the mean loss of 32 other trials (± standard error). Halves: cosine between the mean",
        "gradients of every other trial.",
        "",
        "| when | chip | layer | gradient says | measured | halves |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        for layer, x in line["slopes"].items():
            measured = f"{x['measured']:.3f} ± {x['error']:.3f}"
            where = f"| {line['way']} | {line['chip']} | {layer}"
            rows.append(f"{where} | {x['estimated']:.3f} | {measured} | {x['halves']:.2f} |")
    return rows if lines else []


def _sparsity(lines: Sequence[Line]) -> list[str]:
    rows = ["| hidden spikes beyond the budget cost | spikes/sample | test |", "|---|---|---|"]
    for way in dict.fromkeys(line["way"] for line in lines):
        mine = [line for line in lines if line["way"] == way]
        rows.append(f"| {way} | {average(mine, 'spikes_per_sample')} | {spread(mine, 'test')} |")
    return rows


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
