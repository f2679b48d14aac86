"""The command line's tasks without spikes: trained in floating point, then on the array."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from interrupted import interrupted_after

from spikeloop import ann_tasks, checkpoint, cli
from spikeloop.ann_tasks import ANN_TASKS, HARTask, MNISTAnnTask, ann_task_of
from spikeloop.data import ArrayDataset
from spikeloop.errors import OutOfRange
from spikeloop.training.course import Course

FILES = {"config.json", "metrics.jsonl", "checkpoint.safetensors"}
QUICK = ["train", "mnist-ann", "--float-epochs", "2", "--epochs", "1", "--batch-size", "50"]
TWIN = [*QUICK, "--substrate", "twin"]


def bars(split: str) -> ArrayDataset:
    """Images of a bar whose place is the label, 200 of them, or 100 that are not learned from."""
    samples, seed = (200, 0) if split == "train" else (100, 1)
    label = torch.randint(10, (samples,), generator=torch.Generator().manual_seed(seed))
    images = torch.zeros(samples, 1, 28, 28)
    for image, k in zip(images, label.tolist(), strict=True):
        image[0, 2 * k + 3 : 2 * k + 6, 4:24] = 1.0
    return ArrayDataset(images, label)


@pytest.fixture(autouse=True)
def _small_and_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MNISTAnnTask, "data", lambda _, split: bars(split))
    monkeypatch.setattr(ann_tasks, "SAMPLE", 100)


def accuracy_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    assert cli.main(["evaluate", *words]) == 0
    right = re.search(r"(.*): ([\d.]+) % right", capsys.readouterr().out)
    assert right is not None
    return right[1].strip(), right[2]


def test_train_evaluate_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert cli.main([*QUICK, "--float-epochs", "8", "--seed", "4", "--folder", "run"]) == 0
    shown = capsys.readouterr().out
    assert "mnist-ann, 200 samples, seed 4, in floating point, into run/float" in shown
    assert {path.name for path in run.iterdir()} == FILES | {"float", "learning_curve.png"}
    assert {path.name for path in (run / "float").iterdir()} == FILES
    assert [len((folder / "metrics.jsonl").read_text().splitlines()) for folder in (run / "float", run)] == [8, 1]
    row = re.search(r"^ *4 .*", shown, re.MULTILINE)
    what, right = accuracy_of(capsys, "run")
    assert what == "mnist-ann, test"
    assert row is not None
    assert right in row[0]
    assert float(right) > 50
    assert accuracy_of(capsys, "run/float", "--split", "validation")[0] == "mnist-ann, validation"
    (run / "learning_curve.png").unlink()
    assert cli.main(["plot", "run"]) == 0
    assert (run / "learning_curve.png").stat().st_size > 1000


def test_in_the_loop_with_a_twin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TWIN, "--chip", "7", "--folder", "run"]) == 0
    row = re.search(r"^ *0 .*", capsys.readouterr().out, re.MULTILINE)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"substrate": "twin", "chip": 7}.items() <= config["note"]["options"].items()
    assert config["place"]["type"] == "OnChips"
    assert [chip["seed"] for chip in config["place"]["chips"]] == [7]
    shown = [accuracy_of(capsys, "run", *words) for words in ([], ["--chip", "3"], ["--substrate", "ideal"])]
    assert [line[0] for line in shown] == ["mnist-ann, test, chip 7", "mnist-ann, test, chip 3", "mnist-ann, test"]
    assert row is not None
    assert shown[0][1] in row[0]  # the noise of an evaluation is always the same


def test_its_schedule_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*QUICK, "--folder", "run"]) == 0
    capsys.readouterr()
    assert cli.main(["partition", "run"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("3 layers in 6 passes")
    assert [re.search(rf"^ *\d+ +{layer} +{rows} ", shown, re.MULTILINE) is not None for layer, rows in (
        ("0", "0-99"), ("4", "384-499"), ("7", "0-127"))] == [True] * 3  # fmt: skip


@pytest.mark.parametrize("steps", [5, 10])
def test_it_goes_on_in_whichever_training_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Course, "step", interrupted_after(steps, Course.step))
        assert cli.main([*TWIN, "--folder", "stopped"]) == 130
    again = re.search(r"To go on: spikeloop (.*)", capsys.readouterr().err)
    assert again is not None
    assert cli.main(again[1].split()) == 0
    assert cli.main([*TWIN, "--folder", "whole"]) == 0
    for stage in (".", "float"):
        ends = [checkpoint.load(tmp_path / name / stage / "checkpoint.safetensors")[0] for name in ("stopped", "whole")]
        assert ends[0].keys() == ends[1].keys()
        for name, value in ends[0].items():
            assert value.equal(ends[1][name]), name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*QUICK, "--epochs", "0", "--folder", "run"], "--epochs: nothing was trained"),
        ([*QUICK, "--float-epochs", "0", "--folder", "run"], "--float-epochs: nothing was trained"),
        ([*QUICK, "--batch-size", "0", "--folder", "run"], "batch size"),
        ([*QUICK, "--chip", "3", "--folder", "run"], "--chip: 3 was given for a run on the ideal substrate"),
        ([*TWIN, "--chip", "-1", "--folder", "run"], "there is no chip -1"),
        (["evaluate", "made", "--rows-per-input", "3"], "--rows-per-input: 3 was given for mnist-ann"),
        (["evaluate", "made", "--chip", "3"], "--chip: 3 was given for a run on the ideal substrate"),
    ],
)
def test_refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "made" in argv:
        assert cli.main([*QUICK, "--folder", "made"]) == 0
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err


def test_tasks_by_name() -> None:
    for kind in ANN_TASKS:
        assert ann_task_of(kind.name, {"chip": 4}) == kind(chip=4)
    with pytest.raises(OutOfRange, match="no task 'mnist'.*har or mnist-ann"):
        ann_task_of("mnist", {})


def test_models_start_from_their_seed() -> None:
    for kind in (HARTask, MNISTAnnTask):
        one, same, other = (kind().float_model(seed).state_dict() for seed in (1, 1, 2))
        assert all(value.equal(same[name]) for name, value in one.items())
        assert not all(value.equal(other[name]) for name, value in one.items())
