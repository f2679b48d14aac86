"""Accuracies of whole trainings, seed by seed, and the table of them.

    python benchmarks/accuracy.py                          # all experiments, all seeds: hours
    python benchmarks/accuracy.py yin-yang --seeds 0 1     # some
    python benchmarks/accuracy.py --table                  # only write the table anew

Every finished training is a line of results/accuracy.jsonl, with date, commit, machine and command; one that stands
there is not done again, so a stopped run goes on where it was. The accuracy is that of the test set after the last
epoch; the test set is looked at once. The table, results/accuracy.md, gives mean and spread over the seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from spikeloop import LI, LIF, Network, Normal, Population, Projection, psp_peak
from spikeloop.tasks import MNISTTask, Task, YinYangTask
from spikeloop.training import Adam, Decay, evaluate, fit

RESULTS = Path(__file__).parent / "results"
LINES, TABLE = RESULTS / "accuracy.jsonl", RESULTS / "accuracy.md"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A task, how many seeds it takes, what is printed beside it, and a network of its own where the task has none."""

    what: str
    task: Task
    seeds: int
    published: str = ""
    network: Callable[[MNISTTask, int], Network] | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def small_convolution(task: MNISTTask, seed: int) -> Network:
    """1x16x16 - 8 5x5 stride 2 - 100 - 10."""
    torch.manual_seed(seed)
    peak, neuron = psp_peak(20e-3, 5e-3), LIF(20e-3, 5e-3)
    kernel = (0.4 + 0.8 * torch.randn(8, 1, 5, 5)) * 0.5
    return Network(
        {
            "input": Population(256, dropout=task.dropout),
            "hidden1": Population(8 * 6 * 6, neuron),
            "hidden2": Population(100, neuron),
            "output": Population(10, LI(20e-3, 5e-3)),
        },
        [
            Projection.conv2d("input", "hidden1", kernel, (1, 16, 16), stride=2),
            Projection("hidden1", "hidden2", Normal(0.03 * peak, 0.15 * peak)),
            Projection("hidden2", "output", Normal(0.0, 0.2 * peak)),
        ],
    )


EXPERIMENTS = {
    "yin-yang": Experiment(
        "Yin-Yang 5-200-3, published settings",
        YinYangTask(batch_size=32, learning_rate=5e-3),
        20,
        "98.10 ± 0.18",
        changes={"schedule": Decay(0.95), "optimizer": Adam()},
    ),
    "yin-yang-100": Experiment("Yin-Yang 5-200-3, our settings", YinYangTask(), 20, "98.10 ± 0.18"),
    "mnist": Experiment("MNIST 784-350-10 LI", MNISTTask(), 5, "97.58 ± 0.12"),
    "mnist-16": Experiment("MNIST 16x16 256-246-10 LI", MNISTTask(size=16, hidden=(246,)), 5, "97.5 ± 0.1 (surrogate)"),
    "mnist-16-rotated": Experiment(
        "MNIST 16x16 256-246-10 LI, rotated up to 15°",
        MNISTTask(size=16, hidden=(246,), rotation=15.0),
        5,
        "98.0 ± 0.0 (surrogate)",
    ),
    "mnist-deep": Experiment("MNIST 784-350-350-10 LI", MNISTTask(hidden=(350, 350)), 1),
    "mnist-conv": Experiment(
        "MNIST 16x16, 8 5x5 kernels (stride 2)-100-10 LI",
        MNISTTask(size=16, hidden=(288, 100)),
        1,
        network=small_convolution,
    ),
}


def main(arguments: Sequence[str]) -> None:
    """Train what is asked for, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", choices=[*EXPERIMENTS, []], help="all, if none is named")
    parser.add_argument("--seeds", type=int, nargs="*", help="default: 0 to the experiment's number")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    command = " ".join(["python", "benchmarks/accuracy.py", *arguments])
    for name in [] if given.table else given.experiments or EXPERIMENTS:
        for seed in given.seeds if given.seeds is not None else range(EXPERIMENTS[name].seeds):
            if not any(line["experiment"] == name and line["seed"] == seed for line in finished()):
                write(train(name, seed) | {"command": command, "threads": given.threads})
    TABLE.write_text(table(finished()))


def train(name: str, seed: int) -> dict[str, Any]:
    """One training from beginning to end: what a line of the results says."""
    experiment = EXPERIMENTS[name]
    task = experiment.task
    network = experiment.network(task, seed) if experiment.network else task.network(seed)  # type: ignore[arg-type]
    settings = dataclasses.replace(task.settings(seed), **experiment.changes)
    data, began = task.data("train"), time.perf_counter()
    history = fit(network, data, settings, epochs=task.epochs).history
    seconds = time.perf_counter() - began
    return {
        "experiment": name,
        "seed": seed,
        "test": evaluate(network, task.data("test"), settings=settings),
        "train": history[-1]["accuracy"],
        "spikes_per_sample": history[-1]["spikes_per_sample"],
        "epochs": task.epochs,
        "seconds": seconds,
        "settings": dataclasses.asdict(task),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
    }


def finished() -> list[dict[str, Any]]:
    """All trainings done so far."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def write(line: dict[str, Any]) -> None:
    """Keep one more."""
    RESULTS.mkdir(exist_ok=True)
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{line['experiment']} seed {line['seed']}: {line['test']:.2%} in {line['seconds']:.0f} s", flush=True)


def table(lines: list[dict[str, Any]]) -> str:
    """The results as a page."""
    rows = [
        "# Accuracies",
        "",
        "Test accuracy after the last epoch, in per cent; written by `benchmarks/accuracy.py`, from `accuracy.jsonl`.",
        "Published: EventProp (Wunderlich & Pehle 2021) or, where marked, surrogate gradients in software",
        "(Cramer et al. 2022). Seconds: wall clock of one training, median over the seeds, on a shared machine.",
        "",
        "| experiment | seeds | test: mean ± std | std error | published | epochs | spikes/sample | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, experiment in EXPERIMENTS.items():
        mine = [line for line in lines if line["experiment"] == name]
        if mine:
            rows.append(row(experiment, mine))
    if lines:
        dates, commits = sorted({line["date"] for line in lines}), sorted({line["commit"] for line in lines})
        machines = sorted({f"{line['machine']}, {line['threads']} thread(s)" for line in lines})
        rows += ["", f"Dates: {', '.join(dates)}. Commits: {', '.join(commits)}. Machines: {'; '.join(machines)}."]
        rows += ["Command: `python benchmarks/accuracy.py`; seeds count from 0."]
    return "\n".join(rows) + "\n"


def row(experiment: Experiment, lines: list[dict[str, Any]]) -> str:
    """One line of the table."""
    test = [100 * line["test"] for line in lines]
    spread = statistics.stdev(test) if len(test) > 1 else float("nan")
    numbers = f"{statistics.mean(test):.2f} ± {spread:.2f} | {spread / len(test) ** 0.5:.2f}"
    if len(test) == 1:
        numbers = f"{test[0]:.2f} | one seed"
    spikes = statistics.mean(line["spikes_per_sample"] for line in lines)
    seconds = statistics.median(line["seconds"] for line in lines)
    rest = f"{experiment.published} | {lines[0]['epochs']} | {spikes:.0f} | {seconds:.0f}"
    return f"| {experiment.what} | {len(test)} | {numbers} | {rest} |"


def commit() -> str:
    """The commit this runs from, with a + where files differ from it."""
    try:
        head, changed = (git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "src", "cpp"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def git(*words: str) -> str:
    """What git says."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()


def machine() -> str:
    """Processor and number of cores."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return f"{names[0] if names else platform.processor()}, {len(names) or '?'} cores"


if __name__ == "__main__":
    main(sys.argv[1:])
