"""How heavy is the tail of exact gradients? Norms of single samples' gradients, before and after some training.

    python benchmarks/gradient_tail.py [--samples 1000] [--epochs 2]

Trains MNIST 16x16 (256-246-10 LI) with the recipe of `spikeloop train mnist`, then takes the gradient of the plain loss
sample by sample. Written to results/gradient_tail.md: quantiles of the norm over its median, and Hill's estimate of the
tail index from the largest 5 % (below 2: the variance of a batch's mean is not finite), without and with a slope floor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accuracy import commit, machine
from torch import Tensor

from spikeloop import EventProp, Network, run
from spikeloop.tasks import MNISTTask
from spikeloop.training import fit

TABLE = Path(__file__).parent / "results" / "gradient_tail.md"
FLOORS = (0.0, 0.1, 0.3)
QUANTILES = (0.9, 0.99, 0.999)


def main(arguments: Sequence[str]) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args(arguments)
    task = MNISTTask(size=16, hidden=(246,))
    network = task.network(0)

    def rows_of(when: str) -> list[str]:
        return [line(f"{when}, floor {floor:g}", norms(network, task, given.samples, floor)) for floor in FLOORS]

    rows = rows_of("before training")
    fit(network, task.data("train"), task.settings(0), epochs=given.epochs)
    rows += rows_of(f"after {given.epochs} epochs")
    head = [
        "# Norms of single samples' gradients",
        "",
        f"MNIST 16x16, 256-246-10 LI, {given.samples} samples, seed 0; commit {commit()}, {machine()}.",
        f"Command: `python benchmarks/gradient_tail.py {' '.join(arguments)}`.",
        "",
        "| | median | 90 % / median | 99 % / median | 99.9 % / median | largest / median | tail index (Hill) |",
        "|---|---|---|---|---|---|---|",
    ]
    TABLE.write_text("\n".join(head + rows) + "\n")
    print(TABLE.read_text())


def norms(network: Network, task: MNISTTask, samples: int, floor: float) -> Tensor:
    """(samples,) norms of the weights' gradient, one sample at a time."""
    readout, rule, data = task.settings(0).readout, EventProp(slope_floor=floor), task.data("train")
    assert readout is not None
    found: list[Tensor] = []
    for index in range(samples):
        drive, label = data.batch(torch.tensor([index]))
        record = run(network, drive, task.duration, rule=rule, observe=readout.observe)
        network.zero_grad()
        readout.loss(record, label).backward()
        parts = [parameter.grad.norm() for parameter in network.parameters() if parameter.grad is not None]
        found.append(torch.stack(parts).norm())
    return torch.stack(found)


def line(what: str, norm: Tensor) -> str:
    """One row of the table."""
    norm = norm[norm > 0].double()
    median, top = norm.median(), norm.sort().values[-max(len(norm) // 20, 2) :]
    hill = 1 / (top[1:] / top[0]).log().mean()
    shares = [float(norm.quantile(q) / median) for q in QUANTILES] + [float(norm.max() / median)]
    return f"| {what} | {median:.3g} | " + " | ".join(f"{share:.1f}" for share in shares) + f" | {hill:.2f} |"


if __name__ == "__main__":
    main(sys.argv[1:])
