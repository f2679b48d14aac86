"""Networks without spikes on the array: in floating point, in its integers, on twins of chips, and in the loop.

    python benchmarks/ann.py                        # everything: an hour
    python benchmarks/ann.py har --chips 0 1        # some
    python benchmarks/ann.py --table                # only write the table anew

Every finished piece is a line of results/ann.jsonl, with date, commit, machine and command. What stands there with the
same settings is not done again, of several lines of a piece the last one counts (none is ever deleted), and a training
that was stopped goes on from its folder in runs/ann. Files of src, cpp and benchmarks must be committed before.
Accuracies are those of the test set after the last epoch, at which the test set is looked at once; settings were chosen
with validation data and chips from 100 on. The seed of a training is the number of the chip.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from accuracy import commit, git, machine
from torch import nn

from spikeloop import ann_tasks
from spikeloop.ann_tasks import AnnTask, HARTask, MNISTAnnTask, Stage
from spikeloop.training import Training

RESULTS = Path(__file__).parent / "results"
RUNS = Path("runs") / "ann"
LINES, TABLE = RESULTS / "ann.jsonl", RESULTS / "ann.md"
TASKS: dict[str, AnnTask] = {task.name: task for task in (HARTask(validate=False), MNISTAnnTask())}
WAYS = ("float", "quantised", "not retrained", "looped")
TRAINED = ("float", "looped")
FIRST: Stage = "float"
TITLES = {
    "har": "HAR, 9-32-64-64 convolutions, 448-6, inputs with their signs",
    "mnist-ann": "MNIST, convolution 1-20, 500-128-10",
}
PUBLISHED = {"har": "none that is comparable", "mnist-ann": "chip 98.0"}

Line = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Do what is asked for, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="all, if none is named")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS, help="only these")
    parser.add_argument("--chips", type=int, nargs="*", default=range(5))
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not given.table:
        check_committed()
    made = {"commit": commit(), "machine": machine(), "command": " ".join(["python", "benchmarks/ann.py", *arguments])}
    for chip in [] if given.table else given.chips:
        for name in given.tasks or TASKS:
            for way in given.ways:
                if not done(TASKS[name], way, chip):
                    write(TASKS[name], way, chip, made)
    TABLE.write_text(table(finished()))


def check_committed() -> None:
    """End the program where files differ from the commit that lines will name: nobody could run those again."""
    if changed := git("status", "--porcelain", "--", "src", "cpp", "benchmarks", ":!benchmarks/results"):
        sys.exit(f"These files differ from the commit that would stand in every line; commit them first:\n{changed}")


def do(task: AnnTask, way: str, chip: int) -> Line:
    """What is measured of a way. The float model is that of its run folder; it is trained where there is none."""
    on = dataclasses.replace(task, substrate="twin" if way in ("not retrained", "looped") else "ideal", chip=chip)
    model, stage = on.float_model(chip), FIRST
    training, seconds = train(on, model, FIRST)
    if way != "float":
        model, stage = on.converted(model), "converted"
    if way == "looped":
        training, seconds = train(on, model, stage)
    trained = way in TRAINED
    return {
        "settings": dataclasses.asdict(on),
        "test": ann_tasks.accuracy(on, model, stage),
        "epochs": len(training.history) if trained else 0,
        "train": [line["accuracy"] for line in training.history] if trained else [],
        "seconds": sum(line["seconds"] for line in training.history) if trained else 0.0,
        "processor_seconds": seconds if trained else None,
    }


def train(task: AnnTask, model: nn.Module, stage: Stage) -> tuple[Training, float | None]:
    """To the end, from where a stopped training was; and the processor's time, unless some was spent before."""
    where, began = folder(task, stage), time.process_time()
    before = (where / "checkpoint.safetensors").exists()
    training = ann_tasks.train(task, model, task.chip, stage, where, resume=True)
    return training, None if before else time.process_time() - began


def folder(task: AnnTask, stage: Stage) -> Path:
    """Where a training is kept."""
    return RUNS / f"{task.name}-{stage}-chip-{task.chip}"


def finished() -> list[Line]:
    """All pieces done so far, the last line of each."""
    lines = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    return list({(line["task"], line["way"], line["chip"]): line for line in lines}.values())


def done(task: AnnTask, way: str, chip: int) -> bool:
    """Whether there is a line of it with the task's settings as they are now, as far as they matter to it."""
    free = {"substrate", "chip"} | (set() if way == "looped" else {"epochs", "learning_rate"})
    now = {name: value for name, value in dataclasses.asdict(task).items() if name not in free}
    return any(
        (line["task"], line["way"], line["chip"]) == (task.name, way, chip) and now.items() <= line["settings"].items()
        for line in finished()
    )


def write(task: AnnTask, way: str, chip: int, made: Line) -> None:
    """Do it, and keep what comes of it."""
    began = time.perf_counter()
    line = {"task": task.name, "way": way, "chip": chip, **do(task, way, chip)}
    line |= {"total_seconds": time.perf_counter() - began, "date": datetime.now(UTC).date().isoformat(), **made}
    RESULTS.mkdir(exist_ok=True)
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{task.name}, {way}, chip {chip}: {line['test']:.2%} in {line['total_seconds']:.0f} s", flush=True)


def table(lines: Sequence[Line]) -> str:
    """The results as a page."""
    rows = [
        "# Networks without spikes on the array",
        "",
        "Test accuracy after the last epoch in per cent, mean ± standard deviation over chips, of which each has its",
        "own seed. Float: before it is converted. Quantised: converted, in the array's integers, without noise. Not",
        "retrained: the same on the twin of a chip. In the loop: then trained there. Settings were chosen with",
        "validation data and chips from 100 on. HAR learns from all 21 people that the authors chose for it.",
        "Seconds are those of one core, medians over chips. Written by `python benchmarks/ann.py`, from `ann.jsonl`.",
        "",
        "| | chips | float | quantised | not retrained | in the loop | published | epochs | s/epoch looped / float |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        of = {way: [line for line in lines if (line["task"], line["way"]) == (name, way)] for way in WAYS}
        if any(of.values()):
            chips = sorted({line["chip"] for mine in of.values() for line in mine})
            accuracies = " | ".join(_spread([100 * line["test"] for line in of[way]]) for way in WAYS)
            epochs = " + ".join(str(of[way][-1]["epochs"]) if of[way] else "?" for way in TRAINED)
            times = " / ".join(_epoch(of[way]) for way in reversed(TRAINED))
            rows.append(f"| {title} | {_range(chips)} | {accuracies} | {PUBLISHED[name]} | {epochs} | {times} |")
    made = sorted({f"{line['date']}, commit {line['commit']}, {line['machine']}" for line in lines})
    return "\n".join([*rows, "", *(f"{each}." for each in made)]) + "\n"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "not run"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _epoch(lines: Sequence[Line]) -> str:
    """Seconds of the processor for an epoch, and for the validation after it, if there is one."""
    spent = [line["processor_seconds"] / line["epochs"] for line in lines if line["processor_seconds"] is not None]
    return f"{median(spent):.1f}" if spent else "?"


def _range(chips: Sequence[int]) -> str:
    return ", ".join(map(str, chips)) if len(chips) < 3 else f"{chips[0]} to {chips[-1]}"


if __name__ == "__main__":
    main(sys.argv[1:])
