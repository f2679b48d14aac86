"""How much must be observed of a chip for a gradient: bits per training sample, by rule.

    python benchmarks/information.py        # writes results/information.md from results/twin.jsonl; trains nothing

EventProp needs spikes, SuperSpike the membranes of the hidden layer as the column ADC samples them. Counted are the
bits of what a rule reads, not those of a link's protocol. The trainings are those of benchmarks/twin.py.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from twin import RESULTS, shown

from spikeloop.chip.configuration import CADC_PERIOD_MIN, CIRCUITS, CYCLE

TABLE = RESULTS / "information.md"
CADC_BITS = 8
ADDRESS = math.ceil(math.log2(CIRCUITS))
RATES = (0.25, 0.5, 1.0, 2.0)
PERIODS = (CADC_PERIOD_MIN * CYCLE, 2e-6, 6e-6)
DURATIONS = (38e-6, 60e-6)
TRAININGS = {  # chip seconds of a run, outputs, whether these are sampled, whether all are
    "yin-yang": (60e-6, 3, False, False),
    "sparsity": (60e-6, 3, False, False),
    "yin-yang-surrogate": (60e-6, 3, True, True),
    "sampling": (60e-6, 3, True, True),
    **dict.fromkeys(("mnist", "mnist-rotated", "mnist-sparsity"), (30e-6, 10, True, False)),
    **dict.fromkeys(
        ("mnist-surrogate", "mnist-rotated-surrogate", "mnist-surrogate-sparsity"), (30e-6, 10, True, True)
    ),
}

Line = dict[str, Any]


def spike_bits(duration: float) -> int:
    """Of one spike: its time stamp in cycles of 8 ns, and which of the 512 circuits sent it."""
    return math.ceil(math.log2(duration / CYCLE)) + ADDRESS


def sample_bits(duration: float, period: float) -> int:
    """Of one membrane in one run."""
    return (math.floor(duration / period + 1e-9) + 1) * CADC_BITS


def page(lines: Sequence[Line]) -> str:
    """Both tables."""
    rows = [
        "# Bits observed per training sample",
        "",
        "Assumptions: a spike is a time stamp of 8 ns (13 bits for runs up to 65 us) and one of 512 addresses",
        "(9 bits); a membrane sample is 8 bits, from every neuron of the hidden layer, in the period of the column",
        "ADC (1.7 us is its fastest, 2 us typical, 6 us when it writes to the outer memory: hardware.md 1.1). Of the",
        "surrogate rule samples alone are counted, though it reads the spikes too: that favours it. Times are of the",
        "chip. Written by `benchmarks/information.py`.",
        "",
        "## By counting: bits of one hidden neuron, surrogate over EventProp",
        "",
        "| run | sampled every | surrogate, bits | " + " | ".join(f"{rate:g} spikes/neuron" for rate in RATES) + " |",
        "|---|---|---|" + "---|" * len(RATES),
    ]
    for duration in DURATIONS:
        for period in PERIODS:
            bits = sample_bits(duration, period)
            ratios = [f"{bits / (rate * spike_bits(duration)):.1f}" for rate in RATES]
            rows.append(f"| {1e6 * duration:g} us | {1e6 * period:.1f} us | {bits} | " + " | ".join(ratios) + " |")
    return "\n".join([*rows, "", "## As measured: trainings in the loop", "", *_measured(lines)]) + "\n"


def _measured(lines: Sequence[Line]) -> list[str]:
    """What the trainings in the loop of twin.jsonl observed, and how right they were."""
    rows = [
        "Runs of 60 us (Yin-Yang 5-120-3) and 30 us (MNIST 256-246-10). Outputs are counted, too: as spikes where they",
        "spike, else as sampled membranes, whatever the rule. Spikes are those of the last epoch. Membranes over",
        "these: the bits of all membranes, sampled every 1.7 us, over the row's own.",
        "",
        "| training | rule | spikes/sample | per hidden neuron | bits/sample | membranes over these | test | chips |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line["experiment"] in TRAININGS and line["way"] != "software":
            groups.setdefault((line["experiment"], line["way"]), []).append(line)
    return rows + [_row(*named, mine) for named, mine in sorted(groups.items())]


def _row(experiment: str, way: str, mine: Sequence[Line]) -> str:
    duration, outputs, outputs_sampled, surrogate = TRAININGS[experiment]
    hidden = mine[0]["settings"]["hidden"][0]
    period = float(way.split()[1]) * 1e-6 if experiment == "sampling" else PERIODS[0]
    spikes = statistics.mean(line["spikes_per_sample"] for line in mine)
    read = outputs * sample_bits(duration, period) if outputs_sampled else 0
    sampled = (hidden + outputs) * sample_bits(duration, PERIODS[0])
    bits = hidden * sample_bits(duration, period) + read if surrogate else spikes * spike_bits(duration) + read
    test = [100 * line["test"] for line in mine]
    shown = f"{statistics.mean(test):.2f}" + (f" ± {statistics.stdev(test):.2f}" if len(test) > 1 else "")
    rule, name = "SuperSpike" if surrogate else "EventProp", experiment.removesuffix("-surrogate")
    cells = [
        f"{name}, {way}",
        rule,
        f"{spikes:.0f}",
        f"{spikes / hidden:.2f}",
        f"{bits:.0f}",
        f"{sampled / bits:.1f}",
        shown,
    ]
    return "| " + " | ".join([*cells, str(len(mine))]) + " |"


if __name__ == "__main__":
    TABLE.write_text(page(shown()))
    print(TABLE.read_text())
