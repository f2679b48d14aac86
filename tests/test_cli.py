"""The command line, from the outside: what it writes, shows and refuses."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from interrupted import interrupted_after

from spikeloop import checkpoint, cli, pictures
from spikeloop.data import YinYang
from spikeloop.errors import OutOfRange
from spikeloop.tasks import FashionMNISTTask, MNISTTask, YinYangTask, task_of
from spikeloop.training.course import Course

QUICK = ["train", "yin-yang", "--hidden", "20", "--epochs", "2", "--batch-size", "50"]
PICTURES = {"learning_curve.png", "activity.png", "decision_map.png"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


def test_train_evaluate_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert cli.main([*QUICK, "--seed", "4", "--folder", "run"]) == 0
    shown = capsys.readouterr().out
    assert "yin-yang 5-20-3, 5000 samples, seed 4" in shown
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
    } | PICTURES
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    row = re.search(r"^ *4 .*", shown, re.MULTILINE)
    assert row is not None

    assert cli.main(["evaluate", "run"]) == 0
    right = re.search(r"yin-yang, test: ([\d.]+) % right", capsys.readouterr().out)
    assert right is not None
    assert right[1] in row[0]

    for name in PICTURES:
        (run / name).unlink()
    assert cli.main(["plot", "run"]) == 0
    assert all((run / name).stat().st_size > 1000 for name in PICTURES)


def test_surrogate_gradients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*QUICK, "--rule", "surrogate", "--folder", "run"]) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} >= PICTURES
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["note"]["options"]["rule"] == "surrogate"
    assert config["rule"]["type"] == "SuperSpike"
    assert cli.main(["evaluate", "run"]) == 0
    assert "% right" in capsys.readouterr().out


TWIN = ["train", "yin-yang", "--hidden", "10", "--epochs", "1", "--batch-size", "40", "--substrate", "twin"]


@pytest.fixture
def _few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(YinYangTask, "data", lambda _, split: YinYang(split, size=400))


@pytest.mark.usefixtures("_few_points")
def test_in_the_loop_with_a_twin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TWIN, "--chip", "7", "--folder", "run"]) == 0
    row = re.search(r"^ *0 .*", capsys.readouterr().out, re.MULTILINE)
    assert {path.name for path in (tmp_path / "run").iterdir()} >= PICTURES
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"substrate": "twin", "chip": 7, "rows_per_input": None}.items() <= config["note"]["options"].items()
    assert (config["substrate"]["type"], config["substrate"]["chip"]["seed"]) == ("OnChip", 7)
    assert (config["substrate"]["rows_per_input"], config["rule"]["slope_floor"]) == (5, 0.3)
    shown = [accuracy_of(capsys, *words) for words in ([], ["--chip", "3"], ["--substrate", "ideal"])]
    assert [line[0] for line in shown] == ["yin-yang, test, chip 7", "yin-yang, test, chip 3", "yin-yang, test"]
    assert row is not None
    assert shown[0][1] in row[0]  # the noise of an evaluation is always the same


def accuracy_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    assert cli.main(["evaluate", "run", *words]) == 0
    right = re.search(r"(.*): ([\d.]+) % right", capsys.readouterr().out)
    assert right is not None
    return right[1].strip(), right[2]


@pytest.mark.usefixtures("_no_pictures", "_few_points")
def test_surrogates_in_the_loop_see_sampled_membranes(tmp_path: Path) -> None:
    assert cli.main([*TWIN, "--rule", "surrogate", "--folder", "run"]) == 0
    rule = json.loads((tmp_path / "run" / "config.json").read_text())["rule"]
    assert (rule["type"], rule["replay"]) == ("SuperSpike", False)
    assert rule["dt"] == pytest.approx(1.7e-3, rel=0.01)


@pytest.mark.usefixtures("_no_pictures", "_few_points")
def test_a_twin_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [*TWIN, "--epochs", "2", "--seed", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(Course, "step", interrupted_after(13, Course.step))
        assert cli.main([*long, "--folder", "stopped"]) == 130
    assert cli.main([*long, "--folder", "stopped", "--resume"]) == 0
    assert cli.main([*long, "--folder", "whole"]) == 0
    ends = [checkpoint.load(tmp_path / name / "checkpoint.safetensors") for name in ("stopped", "whole")]
    for name, value in ends[0][0].items():
        assert value.equal(ends[1][0][name])
    seen = [[line["validation_accuracy"] for line in numbers["history"]] for _, numbers in ends]
    assert seen[0] == seen[1]


@pytest.mark.usefixtures("_no_pictures", "_few_points")
def test_another_chip_is_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TWIN, "--folder", "run"]) == 0
    assert cli.main([*TWIN, "--chip", "1", "--folder", "run", "--resume"]) == 2
    assert "the run in it was made with substrate" in capsys.readouterr().err


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "draw", lambda *_: [])


@pytest.mark.usefixtures("_no_pictures")
def test_several_seeds_give_a_mean_and_a_folder_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*QUICK, "--seeds", "0", "1"]) == 0
    assert re.search(r"mean +[\d.]+ ± [\d.]+", capsys.readouterr().out)
    assert {path.name for path in (tmp_path / "runs" / "yin-yang").iterdir()} == {"seed-0", "seed-1"}


@pytest.mark.usefixtures("_no_pictures")
def test_the_default_folder_is_a_new_one(tmp_path: Path) -> None:
    for _ in range(2):
        assert cli.main([*QUICK, "--epochs", "1"]) == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"yin-yang", "yin-yang-2"}


@pytest.mark.usefixtures("_no_pictures")
def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Course, "step", interrupted_after(120, Course.step))
        assert cli.main([*QUICK, "--folder", "my run", "--seed", "2"]) == 130
    command = re.search(r"To go on: spikeloop (.*)", capsys.readouterr().err)
    assert command is not None
    assert command[1] == "train yin-yang --folder 'my run' --resume --hidden 20 --epochs 2 --batch-size 50 --seeds 2"
    assert cli.main([*QUICK, "--folder", "my run", "--seed", "2", "--resume"]) == 0
    assert cli.main([*QUICK, "--folder", "whole", "--seed", "2"]) == 0
    ends = [checkpoint.load(tmp_path / name / "checkpoint.safetensors")[0] for name in ("my run", "whole")]
    for name, value in ends[0].items():
        assert value.equal(ends[1][name])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["evaluate", "nowhere"], "nowhere: there is no run"),
        (["plot", "nowhere"], "nowhere: there is no run"),
        ([*QUICK, "--resume"], "--resume: which run?"),
        ([*QUICK, "--epochs", "0", "--folder", "run"], "--epochs"),
        ([*QUICK, "--hidden", "0", "--folder", "run"], "size is 0"),
        ([*QUICK, "--batch-size", "0", "--folder", "run"], "batch size"),
        ([*QUICK, "--seeds", "--folder", "run"], "no seed is given"),
        ([*QUICK, "--substrate", "twin", "--rows-per-input", "20000", "--folder", "run"], "neuron circuits are needed"),
        ([*QUICK, "--substrate", "twin", "--chip", "-1", "--folder", "run"], "there is no chip -1"),
        ([*QUICK, "--substrate", "twin", "--rows-per-input", "0", "--folder", "run"], "rows_per_input is 0"),
        (
            [*QUICK, "--chip", "3", "--folder", "run"],
            "--chip: 3 was given for a run on the ideal substrate. Expected: the twin of a chip. Add --substrate twin",
        ),
        ([*QUICK, "--chip", "0", "--folder", "run"], "--chip: 0 was given for a run on the ideal substrate"),
        ([*QUICK, "--chip=0", "--folder", "run"], "--chip: 0 was given for a run on the ideal substrate"),
        ([*QUICK, "--rows-per-input", "2", "--folder", "run"], "Add --substrate twin, or leave --rows-per-input out"),
        ([*QUICK, "--rows_per_input", "2", "--folder", "run"], "Add --substrate twin, or leave --rows-per-input out"),
    ],
)
def test_refusals_are_one_sentence_and_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("_no_pictures", "_few_points")
def test_a_chip_is_not_evaluated_without_a_twin(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*QUICK, "--epochs", "1", "--folder", "run"]) == 0
    capsys.readouterr()
    for words in (["--chip", "3"], ["--chip", "0"], ["--substrate", "ideal", "--rows-per-input", "5"]):
        assert cli.main(["evaluate", "run", *words]) == 2
        out, error = capsys.readouterr()
        assert "right" not in out
        assert f"{words[-2]}: {words[-1]} was given for a run on the ideal substrate" in error
        assert "Add --substrate twin" in error
    assert cli.main(["evaluate", "run", "--substrate", "twin", "--chip", "3"]) == 0
    assert "chip 3" in capsys.readouterr().out


@pytest.mark.usefixtures("_no_pictures")
def test_a_full_disk_is_reported(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    assert cli.main([*QUICK, "--epochs", "1", "--folder", "run"]) == 2
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.usefixtures("_no_pictures")
def test_a_run_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*QUICK, "--epochs", "1", "--folder", "run"]) == 0
    assert cli.main([*QUICK, "--epochs", "1", "--folder", "run"]) == 2
    assert "there is a run already" in capsys.readouterr().err


def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "yin-yang", "--epoch", "three"])
    assert stop.value.code == 2
    assert "--epoch" in capsys.readouterr().err


def test_tasks_survive_json() -> None:
    for task in (YinYangTask(hidden=(30, 20)), MNISTTask(size=16, rotation=15.0), FashionMNISTTask(dropout=0.0)):
        assert task_of(task.name, json.loads(json.dumps(asdict(task)))) == task
    with pytest.raises(OutOfRange, match="no task 'cifar'"):
        task_of("cifar", {})


def test_task_networks_have_their_weights_and_depend_on_the_seed() -> None:
    network = YinYangTask().network(0)
    first, second = (projection.weight.detach() for projection in network.projections.values())
    assert [tuple(first.shape), tuple(second.shape)] == [(5, 200), (200, 3)]
    assert float(first.mean()) == pytest.approx(1.5, abs=0.1)
    assert float(first.std()) == pytest.approx(0.78, abs=0.06)
    assert float(second.mean()) == pytest.approx(0.93, abs=0.02)
    assert float(second.std()) == pytest.approx(0.1, abs=0.01)
    assert first.equal(YinYangTask().network(0).projection("input", "hidden").weight)
    assert not first.equal(YinYangTask().network(1).projection("input", "hidden").weight)

    looped, slow = YinYangTask(substrate="twin").network(0), YinYangTask(neurons="slow").network(0)
    assert float(looped.populations["hidden"].tau_syn) == pytest.approx(20e-3)
    assert looped.projection("input", "hidden").weight.equal(slow.projection("input", "hidden").weight)
    published = YinYangTask(substrate="twin", neurons="published").network(0)
    assert published.projection("input", "hidden").weight.equal(first)

    fast = YinYangTask(substrate="twin", rule="surrogate").network(0).populations
    assert [float(fast[name].tau_mem) for name in ("hidden", "output")] == pytest.approx([10e-3, 10e-3])
    assert float(fast["hidden"].refractory) == 0.0
    seen = MNISTTask(substrate="twin", size=16, hidden=(246,)).network(0).populations
    assert [float(seen[name].tau_mem) for name in ("hidden", "output")] == pytest.approx([40e-3, 40e-3])
    assert float(seen["hidden"].refractory) == pytest.approx(MNISTTask.duration)
    assert float(MNISTTask().network(0).populations["hidden"].refractory) == 0.0

    deep = MNISTTask(hidden=(350, 350)).network(0)
    weights = [projection.weight.detach() for projection in deep.projections.values()]
    assert [tuple(weight.shape) for weight in weights] == [(784, 350), (350, 350), (350, 10)]
    assert float(weights[0].mean()) == pytest.approx(0.04, abs=0.003)
    assert float(weights[2].std()) == pytest.approx(0.2, abs=0.01)
    assert deep.populations["input"].dropout == 0.15
