"""The page that benchmarks/hardware_aware.py writes: what stands in its lines, and where the numbers come from."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

Line = dict[str, Any]

IDEAL, AWARE = "ideal, as published", "hardware-aware, as published"
TWINS = ("the twin, thresholds only", "the twin")
PUBLISHED = {IDEAL: (97.0, 0.4), AWARE: (88.8, 1.6)}
"""Per cent: mean and standard deviation of the validation accuracies recorded after the last 20 of 300 epochs."""

LAST = {IDEAL: 96.7, AWARE: 86.1}
"""Per cent: the last of those, of the weights that were published."""

HEAD = """\
# The published hardware-aware noise model, rebuilt

Yin-Yang, 4-30-3, trained weights and no delays, as in Göltz, Weber, Kriener et al., "DelGrad" (Nature Communications
2025) and JulianGoeltz/fastAndDeep (commit 33e4876). Every number of this page is simulated. Written by
`benchmarks/hardware_aware.py` and `benchmarks/hardware_aware_trained.py`.

## The noise alone: the published networks, run by the rebuilt model

Per cent of the validation and of the test points; ± std over 20 draws of the thresholds that change from run to run,
and of the fixed ones: of other chips by the model, and of `Twin(0)` to `Twin(19)` with these imperfections and no
others. Nothing was trained here.
"""

TRAINED = """
## Trained anew

Per cent of the validation points: mean ± std over seeds of the mean over the last 20 of 300 epochs. Published: the same
mean over the epochs that were recorded, one training each (± std over those epochs). Raised: steps that raised the
weights of silent neurons instead of learning, of 37500 (ideal 10200); published 6673 (428).
"""

TIMES = """\
## Which time constants, and what else differs

The facts disagreed: tau_mem = 2 tau_syn in one place, equal time constants in another. Both are right. The
configurations stored beside the trained networks (experiment_pretrained/*/config.yaml) say

| | ideal (yin_yang_H30_W) | hardware-aware (yin_yang_hwAware_W) |
|---|---|---|
| tau_mem, tau_syn | 2, 1 | 1, 1 |
| threshold | 1 | 2.6 + 0.13 ± 0.08 for good, ± 0.04 in every run |
| inputs | 4, between 0.15 and 2, no bias | the same, each 5 times |
| weights | not limited | at most 2.1, in steps of 1/30 |
| first weights | 0.5 ± 1 | 1 ± 0.12 and 0.075 ± 0.15 |
| batch, learning rate | 150, 0.02 | 40, 0.002 |

with times in units of tau_syn, for which the calibration of that repository (generate_calibration.py) takes 6 us, for
tau_mem too: equal time constants are the chip's. So the published drop is not that of noise alone: the row between has
the chip's network and none of its noise. The published spike jitter belongs to delays, which these networks lack.
Weights in the second column count charge (conductance 1); in the first, ours are 2 times theirs (conductance 0.5).
"""

OURS = """\
## What is ours

Gradients are EventProp's, with a slope floor of 0.005 thresholds: about where the published training drops the gradient
of a sample that grazes the threshold (beyond 0.2). It also takes slopes where the ideal neuron would have spiked, ours
where the neuron did. Every neuron is held for 5.3 tau after a spike, so that it spikes once. `the twin, thresholds
only` is `OnChip(Twin(seed))` with the published threshold imperfections and no others. Its weight steps are 0.038,
those of the published model 0.033; the limit is 2.1 for both.

The criterion for the noise is the first comparison, of networks that were trained elsewhere: nothing of ours but the
noise enters it. A training anew measures our gradient with it, which loses less than the published one.
"""


def table(lines: Sequence[Line], variants: Iterable[str]) -> str:
    """The results as a page."""
    trained = [line for line in lines if "seed" in line]
    rows = [HEAD, *_published([line for line in lines if "seed" not in line]), TRAINED]
    rows += ["| variant | published | rebuilt | test | seeds | raised | minutes |", "|---|---|---|---|---|---|---|"]
    for name in variants:
        mine = [line for line in trained if line["variant"] == name]
        if mine:
            seeds = ", ".join(str(line["seed"]) for line in mine)
            cells = [
                name,
                published(name),
                spread(mine, "validation"),
                spread(mine, "test"),
                seeds,
                mean(mine, "raised"),
            ]
            rows.append(f"| {' | '.join(cells)} | {statistics.mean(line['seconds'] for line in mine) / 60:.0f} |")
    rows += ["", *_drops(trained), "", TIMES, OURS]
    if lines:
        dates, commits, machines = (sorted({x[key] for x in lines}) for key in ("date", "commit", "machine"))
        rows += [f"Dates: {', '.join(dates)}. Commits: {', '.join(commits)}. Machines: {'; '.join(machines)}, shared."]
    return "\n".join(rows) + "\n"


def _published(lines: Sequence[Line]) -> list[str]:
    """The trained networks that were published, run here."""
    rows = ["| network | thresholds | recorded, last epoch | run here, validation | test |", "|---|---|---|---|---|"]
    for line in lines:
        words = {"theirs": "of its training", "others": "of other chips", "twins": "of twins"}[line["thresholds"]]
        last = f"{LAST[line['variant']]:.1f}" if line["thresholds"] == "theirs" else ""
        rows.append(f"| {line['variant']} | {words} | {last} | {over(line['validation'])} | {over(line['test'])} |")
    found = {
        line["variant"]: 100 * statistics.mean(line["validation"]) for line in lines if line["thresholds"] == "theirs"
    }
    if len(found) < 2:
        return ["Not run yet."]
    return [*rows, "", _drop(LAST[IDEAL] - LAST[AWARE], {"here": found[IDEAL] - found[AWARE]})]


def _drops(lines: Sequence[Line]) -> list[str]:
    """How far the accuracy falls from ideal to hardware-aware, published and rebuilt."""
    found = {name: [100 * x["validation"] for x in lines if x["variant"] == name] for name in (IDEAL, AWARE, *TWINS)}
    if not (found[IDEAL] and found[AWARE]):
        return ["The drop: not run yet."]
    fall = {
        name: statistics.mean(found[IDEAL]) - statistics.mean(v) for name, v in found.items() if v and name != IDEAL
    }
    return [_drop(PUBLISHED[IDEAL][0] - PUBLISHED[AWARE][0], fall)]


def _drop(published: float, ours: dict[str, float]) -> str:
    within = {name: "within" if abs(points - published) <= 3 else "not within" for name, points in ours.items()}
    said = ", ".join(f"{name} {points:.1f} ({within[name]} 3 points)" for name, points in ours.items())
    return f"Drop from ideal, in points: published {published:.1f}; {said}."


def published(name: str) -> str:
    """Mean and spread over the last epochs, if there is any."""
    return "{:.1f} ± {:.1f}".format(*PUBLISHED[name]) if name in PUBLISHED else ""


def over(values: Sequence[float]) -> str:
    """Mean and standard deviation, in per cent."""
    percent = [100 * value for value in values]
    return f"{statistics.mean(percent):.1f}" + (f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else "")


def spread(lines: Sequence[Line], key: str) -> str:
    """`over` the lines."""
    return over([line[key] for line in lines])


def mean(lines: Sequence[Line], key: str) -> str:
    """The mean, rounded."""
    return f"{statistics.mean(line[key] for line in lines):.0f}"
