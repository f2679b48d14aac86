"""What large batches need: optimisers, learning rates, slope floors and batch sizes side by side.

    python benchmarks/recipe.py            # all variants: about an hour; or name some
    python benchmarks/recipe.py --table    # only write the table anew

MNIST 16x16, 256-246-10 LI, 6 epochs with a cosine, 15 % of the inputs dropped, neurons silent over the batch lifted,
one seed: enough to tell apart what differs by half a point, not more. Lines go to results/recipe.jsonl, the table to
results/recipe.md; what stands there is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from accuracy import commit, machine

from spikeloop import LI, LIF, EventProp, Normal, feedforward, psp_peak
from spikeloop.data import MNIST
from spikeloop.training import Adam, Cosine, LiftSilent, MaxOverTime, Settings, evaluate, fit

RESULTS = Path(__file__).parent / "results"
LINES, TABLE = RESULTS / "recipe.jsonl", RESULTS / "recipe.md"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train."""

    learning_rate: float
    beta2: float = 0.999
    floor: float = 0.0
    batch_size: int = 100
    lift: bool = True


VARIANTS = {
    "Adam": Variant(2e-3),
    "Adam, floor 0.3": Variant(3e-3, floor=0.3),
    "Adam, higher rate": Variant(1e-2),
    "Adam, higher rate, floor 0.5": Variant(1e-2, floor=0.5),
    "short memory": Variant(5e-3, beta2=0.95),
    "short memory, higher rate (the recipe)": Variant(1e-2, beta2=0.95),
    "the recipe, floor 0.1": Variant(1e-2, beta2=0.95, floor=0.1),
    "shorter memory": Variant(1e-2, beta2=0.9),
    "the recipe without lifting": Variant(1e-2, beta2=0.95, lift=False),
    "the recipe, batch 500": Variant(2e-2, beta2=0.95, batch_size=500),
    "the recipe, batch 500, shorter memory": Variant(2e-2, beta2=0.9, batch_size=500),
    "batch 5, Adam": Variant(1e-3, batch_size=5),
    "batch 5, lower rate": Variant(5e-4, batch_size=5),
    "batch 5, short memory": Variant(1e-3, beta2=0.95, batch_size=5),
}


def main(arguments: Sequence[str]) -> None:
    """Train what is not there yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help="all, if none is named")
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args(arguments)
    for name in [] if given.table else given.variants or VARIANTS:
        if name not in finished():
            line = {"variant": name, **train(VARIANTS[name])}
            with LINES.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}: {line['test']:.2%}", flush=True)
    TABLE.write_text(table())


def train(variant: Variant) -> dict[str, object]:
    """One training: what a line of the results says."""
    torch.manual_seed(0)
    peak, times = psp_peak(20e-3, 5e-3), {"tau_mem": 20e-3, "tau_syn": 5e-3}
    weights = [Normal(0.08 * peak, 0.15 * peak), Normal(0.0, 0.2 * peak)]
    network = feedforward([256, 246, 10], LIF(**times), readout=LI(**times), weight=weights, dropout=[0.15, 0.0, 0.0])
    settings = Settings(
        duration=30e-3,
        readout=MaxOverTime(scale=10.0),
        regulariser=LiftSilent() if variant.lift else None,
        batch_size=variant.batch_size,
        learning_rate=variant.learning_rate,
        optimizer=Adam(variant.beta2),
        schedule=Cosine(),
    )
    rule = EventProp(slope_floor=variant.floor)
    history = fit(network, MNIST("train", 16), settings, epochs=6, rule=rule).history
    return {
        "test": evaluate(network, MNIST("test", 16), settings=settings),
        "train": [line["accuracy"] for line in history],
        "spikes_per_sample": [line["spikes_per_sample"] for line in history],
        "floored": rule.tally.fraction,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
    }


def finished() -> dict[str, dict[str, object]]:
    """All trainings done so far, by variant."""
    lines = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    return {line["variant"]: line for line in lines}


def table() -> str:
    """The results as a page."""
    rows = [
        "# What large batches need",
        "",
        "MNIST 16x16, 256-246-10 LI, 6 epochs, seed 0: test accuracy after the last epoch, in per cent.",
        "Written by `python benchmarks/recipe.py`, from `recipe.jsonl`.",
        "",
        "| | batch | learning rate | beta2 | slope floor | acted on | spikes/sample | test |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines = finished()
    for name, v in VARIANTS.items():
        if name in lines:
            found = lines[name]
            numbers = f"{found['floored']:.1%} | {found['spikes_per_sample'][-1]:.0f} | {100 * found['test']:.2f}"  # type: ignore[index,operator]
            rows.append(f"| {name} | {v.batch_size} | {v.learning_rate:g} | {v.beta2:g} | {v.floor:g} | {numbers} |")
    made = sorted({f"{line['date']}, commit {line['commit']}, {line['machine']}" for line in lines.values()})
    return "\n".join([*rows, "", f"{'; '.join(made)}."]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
