"""What the command line does with a run folder: train a task into it, evaluate what it holds, draw it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spikeloop import ann_tasks, pictures
from spikeloop.ann_tasks import AnnTask, Stage, ann_task_of
from spikeloop.errors import CheckpointError, OutOfRange
from spikeloop.tasks import Split, Task, rule_of, substrate_of, task_of
from spikeloop.training import RunFolder, Settings, Training, evaluate, fit
from spikeloop.training.loop import Watch

OF_A_TWIN = ("chip", "rows_per_input")
FLOAT = "float"  # the folder of the training before the one on the array, within its run folder

AnyTask = Task | AnnTask
Say = Callable[[str], None]


def train(task: AnyTask, seed: int, folder: Path, resume: bool, watch: Watch, say: Say) -> tuple[Training, float]:
    """The training, or the last of two, and the test accuracy."""
    if isinstance(task, AnnTask):
        return _train_ann(task, seed, folder, resume, watch, say)
    network, settings = task.network(seed), _noted(task, seed)
    substrate, data = substrate_of(task), task.data("train")
    sizes = "-".join(str(population.size) for population in network.populations.values())
    say(f"{task.name} {sizes}, {len(data)} samples, seed {seed}, into {folder}")
    training = fit(
        network,
        data,
        settings,
        epochs=task.epochs,
        substrate=substrate,
        rule=rule_of(task),
        validation=task.data("validation"),
        folder=folder,
        resume=resume,
        watch=watch,
    )
    _check_trained(training, "--epochs")
    return training, evaluate(network, task.data("test"), substrate, settings=settings)


def _train_ann(task: AnnTask, seed: int, folder: Path, resume: bool, watch: Watch, say: Say) -> tuple[Training, float]:
    """First in floating point, then where it shall run."""
    model = task.float_model(seed)
    say(f"{task.name}, {len(task.data('train'))} samples, seed {seed}, in floating point, into {folder / FLOAT}")
    before = ann_tasks.train(task, model, seed, "float", folder / FLOAT, resume, watch)
    _check_trained(before, "--float-epochs")
    model = task.converted(model)
    say(f"and on the array{f' of chip {task.chip}' if task.looped else ''}, into {folder}")
    training = ann_tasks.train(task, model, seed, "converted", folder, resume, watch)
    _check_trained(training, "--epochs")
    return training, ann_tasks.accuracy(task, model, "converted")


def _check_trained(training: Training, option: str) -> None:
    if not training.history:
        raise OutOfRange("nothing was trained", where=option, expected="at least one")


def accuracy(path: Path, split: Split, given: Mapping[str, object]) -> tuple[AnyTask, float]:
    """The accuracy of the network in a run folder, its task changed as ``given`` says; and that task."""
    folder = RunFolder(path)
    task, seed, stage = _task_in(folder)
    if unknown := [name for name in given if not hasattr(task, name)]:
        raise OutOfRange(f"{given[unknown[0]]} was given for {task.name}", where=option(unknown[0]),
                         expected="a task that spikes", todo=f"Leave {option(unknown[0])} out")  # fmt: skip
    task = dataclasses.replace(task, **given)  # type: ignore[arg-type]
    refuse_without_twin(task, given)
    if isinstance(task, AnnTask):
        return task, ann_tasks.accuracy(task, ann_tasks.load(task, seed, stage, folder), stage, split)
    network = task.network(seed)
    folder.load_network(network)
    return task, evaluate(network, task.data(split), substrate_of(task), settings=task.settings(seed))


def draw(path: Path) -> list[Path]:
    """Draws the pictures of the run in `path`, from its checkpoint and metrics."""
    folder = RunFolder(path)
    task, seed, _ = _task_in(folder)
    if isinstance(task, AnnTask):
        return pictures.draw_learning(folder.read_metrics(), path)
    network = task.network(seed)
    folder.load_network(network)
    return pictures.draw(task, network, folder.read_metrics(), path, substrate_of(task))


def refuse_without_twin(task: AnyTask, given: Mapping[str, object]) -> None:
    """Raise ``OutOfRange`` where an option is given that says something about a twin, and there is none."""
    for name in OF_A_TWIN:
        if name in given and not task.looped:
            raise OutOfRange(
                f"{given[name]} was given for a run on the {task.substrate} substrate",
                where=option(name), expected="the twin of a chip",
                todo=f"Add --substrate twin, or leave {option(name)} out",
            )  # fmt: skip


def option(name: str) -> str:
    """As it is written in a command."""
    return f"--{name.replace('_', '-')}"


def _noted(task: Task, seed: int) -> Settings:
    """The task's settings, with what is needed to make the task again."""
    note = {"task": task.name, "options": dataclasses.asdict(task), "seed": seed}
    return dataclasses.replace(task.settings(seed), note=note)


def _task_in(folder: RunFolder) -> tuple[AnyTask, int, Stage]:
    note: Mapping[str, Any] = folder.read_config().get("note") or {}
    try:
        if "stage" in note:
            return ann_task_of(note["task"], note["options"]), int(note["seed"]), note["stage"]
        return task_of(note["task"], note["options"]), int(note["seed"]), "converted"
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            "the run was not made by `spikeloop train`", where=str(folder.path), todo="Load it in Python"
        ) from error
