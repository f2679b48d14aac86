"""Checkpoints of models on the array, and what `spikeloop partition` and `plot.schedule` show of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from torch import Tensor, nn

from spikeloop import Twin, ann, checkpoint, cli, plot
from spikeloop.chip.schedule import Matrix, partition
from spikeloop.errors import CheckpointError


def built() -> nn.Sequential:
    return nn.Sequential(
        ann.Conv2d(1, 20, 10, stride=5, padding=1), ann.ConvertingReLU(1), nn.Flatten(),
        ann.Linear(500, 128), nn.ReLU(), ann.Linear(128, 10),
    )  # fmt: skip


def calibrated() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    model, sample = built(), torch.rand(30, 1, 28, 28)
    ann.calibrate(model, sample)
    return model, sample


def test_scales_are_part_of_a_checkpoint(tmp_path: Path) -> None:
    model, sample = calibrated()
    checkpoint.save_network(tmp_path / "model", model, {"task": "none"})
    other = built()
    assert not other[0].calibrated
    assert checkpoint.load_network(tmp_path / "model", other) == {"task": "none"}
    with torch.no_grad():
        assert torch.equal(model(sample), other(sample))
    assert other[3].setting == model[3].setting
    assert float(other[1].scale) == float(model[1].scale) != 1.0
    checkpoint.save_network(tmp_path / "plain", nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(CheckpointError, match=r"it lacks 0\.input_scale"):
        checkpoint.load_network(tmp_path / "plain", nn.Sequential(ann.Linear(2, 2)))


@pytest.mark.parametrize("chips", [1, 2])
def test_partition_prints_the_schedule_of_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, chips: int
) -> None:
    monkeypatch.setenv("COLUMNS", "60")  # tables are not wrapped
    model, _ = calibrated()
    lab = ann.Experiment(model, ann.OnChips([Twin(k) for k in range(chips)]))
    assert lab.schedule is not None
    checkpoint.save_network(tmp_path / "model.safetensors", model)
    checkpoint.save(  # as in a run folder
        tmp_path / "checkpoint.safetensors", {f"network.{name}": value for name, value in model.state_dict().items()}
    )
    for path in (tmp_path / "model.safetensors", tmp_path):
        assert cli.main(["partition", str(path), "--chips", str(chips)]) == 0
        shown = capsys.readouterr().out
        assert shown == f"{lab.schedule}\n{lab.schedule.cost(100)}\n"


def test_partition_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tmp_path / "plain", {"weight": torch.zeros(2)})
    for words, said in (
        (["partition", str(tmp_path / "plain")], "there is no layer on the array"),
        (["partition", str(tmp_path / "none")], "none"),
    ):
        assert cli.main(words) == cli.REFUSED
        assert said in capsys.readouterr().err
    model, _ = calibrated()
    checkpoint.save_network(tmp_path / "model", model)
    assert cli.main(["partition", str(tmp_path / "model"), "--chips", "0"]) == cli.REFUSED
    assert "chips is 0" in capsys.readouterr().err


def test_a_picture_of_the_schedule() -> None:
    schedule = partition([Matrix("first", 784, 256), Matrix("second", 256, 10)], 2)
    with mpl.rc_context({"backend": "agg"}):
        _, ax = plot.canvas()
        assert plot.schedule(schedule, ax=ax) is ax
    frames = schedule.steps * 4
    assert len(ax.patches) == frames + len(schedule.entries)
    for patch, entry in zip(ax.patches[frames:], schedule.entries, strict=True):
        assert patch.get_x() + 0.45 == pytest.approx(entry.step + 0.9 * entry.column / 256)
        assert patch.get_y() + 0.45 == pytest.approx(2 * entry.chip + entry.half + 0.9 * entry.row / 128)
    assert [label.get_text() for label in ax.get_yticklabels()][1] == "chip 0, bottom"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["first", "second"]
