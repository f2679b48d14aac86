"""The command `spikeloop`: train, evaluate, plot, partition. It only calls what the package offers."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

from spikeloop.errors import CheckpointError, OutOfRange, SpikeloopError

try:
    import tyro
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError as _missing:
    raise SystemExit(
        'The command needs tyro and rich, which are not installed: pip install "spikeloop[cli]"'
    ) from _missing

from spikeloop import checkpoint, runs
from spikeloop.ann.onchips import matrices_in
from spikeloop.ann_tasks import HARTask, MNISTAnnTask
from spikeloop.chip.schedule import partition
from spikeloop.runs import OF_A_TWIN, AnyTask, option
from spikeloop.tasks import FashionMNISTTask, MNISTTask, Split, SubstrateName, YinYangTask
from spikeloop.training import Progress as Step
from spikeloop.training import RunFolder, Training

REFUSED, INTERRUPTED = 2, 130


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network; results go to a run folder: config, metrics, checkpoint, pictures."""

    task: (
        Annotated[YinYangTask, tyro.conf.subcommand(YinYangTask.name)]
        | Annotated[MNISTTask, tyro.conf.subcommand(MNISTTask.name)]
        | Annotated[FashionMNISTTask, tyro.conf.subcommand(FashionMNISTTask.name)]
        | Annotated[HARTask, tyro.conf.subcommand(HARTask.name)]
        | Annotated[MNISTAnnTask, tyro.conf.subcommand(MNISTAnnTask.name)]
    )
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--seed"])] = (0,)
    """One training per seed: of the first weights, the order of the samples and dropout."""
    folder: Path | None = None
    """Where the results go; by default the first free one of runs/TASK, runs/TASK-2, ..."""
    resume: bool = False
    """Go on with the run in the folder, as if it had never been stopped."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Print how often the network of a run folder is right."""

    folder: tyro.conf.Positional[Path]
    """A run folder."""
    split: Split = "test"
    """Which part of the data."""
    substrate: SubstrateName | None = None
    """Where to run it; None: where it was trained. A network of another place is transferred as it is."""
    chip: int | None = None
    """Which chip the twin is of; None: the one it was trained on, else chip 0."""
    rows_per_input: int | None = None
    """Row pairs of the chip that each input line takes; None: as trained."""


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draw the pictures of a run folder anew."""

    folder: tyro.conf.Positional[Path]
    """A run folder."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """Print which part of which layer is multiplied when and where on chips, and what that costs."""

    checkpoint: tyro.conf.Positional[Path]
    """A checkpoint of a model with layers of spikeloop.ann, or a run folder."""
    chips: int = 1
    """How many chips there are."""
    samples: int = 100
    """How many samples go through the chips at a time."""


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Partition, tyro.conf.subcommand("partition")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for anything refused, 130 for Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    command = tyro.cli(
        Command,
        prog="spikeloop",
        args=words,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.FlagCreatePairsOff,
        ),
    )
    console = Console()
    try:
        if isinstance(command, Train):
            runs.refuse_without_twin(command.task, _written(command.task, words))
            train(command, console)
        elif isinstance(command, Evaluate):
            show_accuracy(command, console)
        elif isinstance(command, Partition):
            show_schedule(command, console)
        else:
            show_paths(console, runs.draw(command.folder))
    except (SpikeloopError, OSError) as error:
        Console(stderr=True).print(f"spikeloop: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return REFUSED
    except KeyboardInterrupt as interrupt:
        Console(stderr=True).print(
            f"\nspikeloop: {interrupt or 'stopped'}", markup=False, highlight=False, soft_wrap=True
        )
        return INTERRUPTED
    return 0


def train(command: Train, console: Console) -> None:
    """One training per seed, then a table and the pictures of the first."""
    if not command.seeds:
        raise OutOfRange("no seed is given", where="--seeds", expected="at least one")
    top = _folder_for(command)
    rows: list[tuple[int, Training, float]] = []
    folders = [top if len(command.seeds) == 1 else top / f"seed-{seed}" for seed in command.seeds]
    for seed, folder in zip(command.seeds, folders, strict=True):
        try:
            rows.append((seed, *train_one(command.task, seed, folder, command.resume, console)))
        except KeyboardInterrupt as interrupt:
            again = _how_to_resume(command, top)
            raise KeyboardInterrupt(f"stopped. To go on: {again}" if interrupt.args else "stopped") from interrupt
    console.print(_result_table(command.task, rows))
    show_paths(console, [path for folder in folders[:1] for path in runs.draw(folder)])


def train_one(task: AnyTask, seed: int, folder: Path, resume: bool, console: Console) -> tuple[Training, float]:
    """What `fit` returned, and the test accuracy."""
    with _bar(console) as bar:
        shown = bar.add_task("", total=None, status="")

        def watch(step: Step) -> None:
            bar.update(
                shown, total=step.epochs * step.steps, completed=step.epoch * step.steps + step.step, status=_line(step)
            )

        return runs.train(task, seed, folder, resume, watch, lambda text: console.print(text, highlight=False))


def show_accuracy(command: Evaluate, console: Console) -> None:
    """The accuracy on one split."""
    where = {name: getattr(command, name) for name in ("substrate", *OF_A_TWIN)}
    given = {name: value for name, value in where.items() if value is not None}
    task, right = runs.accuracy(command.folder, command.split, given)
    on = f", chip {task.chip}" if task.looped else ""
    console.print(f"{task.name}, {command.split}{on}: {100 * right:.2f} % right", highlight=False)


def show_schedule(command: Partition, console: Console) -> None:
    """The schedule of a checkpoint's layers, and what a run costs."""
    path = RunFolder(command.checkpoint).checkpoint if command.checkpoint.is_dir() else command.checkpoint
    tensors, _ = checkpoint.load(path)
    matrices = matrices_in({name.removeprefix("network."): value for name, value in tensors.items()})
    if not matrices:
        raise CheckpointError(
            "there is no layer on the array", where=str(path), expected="a calibrated model of spikeloop.ann",
            todo="Save one with spikeloop.checkpoint.save_network",
        )  # fmt: skip
    schedule = partition(matrices, command.chips, command.samples)
    for text in (schedule, schedule.cost(command.samples)):
        console.print(str(text), markup=False, highlight=False, soft_wrap=True)


def show_paths(console: Console, paths: Sequence[Path]) -> None:
    """Names the files that were written."""
    for path in paths:
        console.print(str(path), style="dim", highlight=False, soft_wrap=True)


def _written(task: AnyTask, words: Sequence[str]) -> dict[str, object]:
    """The options of a twin that stand in the command, those at their defaults included: ``--chip 0``, ``--chip=0``."""
    names = {word.partition("=")[0].replace("_", "-") for word in words}
    return {name: getattr(task, name) for name in OF_A_TWIN if option(name) in names}


def _changed(task: AnyTask) -> dict[str, object]:
    """The options that differ from their defaults."""
    options = {field.name: (getattr(task, field.name), field.default) for field in dataclasses.fields(task)}
    return {name: value for name, (value, default) in options.items() if value != default}


def _folder_for(command: Train) -> Path:
    if command.folder is not None:
        return command.folder
    if command.resume:
        raise CheckpointError("which run?", where="--resume", todo="Give its --folder")
    candidate, number = Path("runs") / command.task.name, 1
    while candidate.exists():
        number += 1
        candidate = Path("runs") / f"{command.task.name}-{number}"
    return candidate


def _how_to_resume(command: Train, folder: Path) -> str:
    words = ["spikeloop", "train", command.task.name, "--folder", str(folder), "--resume"]
    for name, value in _changed(command.task).items():
        words += [option(name), *map(str, value if isinstance(value, tuple) else [value])]
    if command.seeds != (0,):
        words += ["--seeds", *map(str, command.seeds)]
    return shlex.join(words)


def _bar(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=12),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )


def _line(step: Step) -> str:
    spikes = f"{step.spikes_per_sample:.0f} spikes/sample " if step.spikes_per_sample else ""
    return (
        f"epoch {step.epoch + 1}/{step.epochs} loss {step.loss:.3f} {100 * step.accuracy:.1f}% "
        f"{spikes}{step.samples_per_second:,.0f} samples/s"
    )


def _result_table(task: AnyTask, rows: Sequence[tuple[int, Training, float]]) -> Table:
    table = Table(title=f"{task.name}, last epoch", title_justify="left", box=None, pad_edge=False)
    for name in ("seed", "train %", "validation %", "test %", "spikes/sample", "samples/s", "time (s)"):
        table.add_column(name, justify="right")
    for seed, training, test in rows:
        last = training.history[-1]
        seen = last["validation_accuracy"]
        table.add_row(
            str(seed),
            f"{100 * last['accuracy']:.2f}",
            "" if seen is None else f"{100 * seen:.2f}",
            f"{100 * test:.2f}",
            f"{last['spikes_per_sample']:.1f}",
            f"{last['samples_per_second']:,.0f}",
            f"{sum(line['seconds'] for line in training.history):.1f}",
        )
    if len(rows) > 1:
        tests = [100 * test for _, _, test in rows]
        table.add_row("mean", "", "", f"{mean(tests):.2f} ± {stdev(tests) / len(tests) ** 0.5:.2f}", "", "", "")
    return table


if __name__ == "__main__":
    sys.exit(main())
