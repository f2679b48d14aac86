"""fit_ann and evaluate_ann: the same training for networks that do not spike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interrupted import interrupted_after
from torch import nn

from spikeloop import LI, Events, Network, Population, Projection, checkpoint
from spikeloop.ann import Float, Quantised, convert
from spikeloop.data import ArrayDataset, EventDataset
from spikeloop.errors import CheckpointError, WrongType
from spikeloop.training import Cosine, HighestOutput, MaxOverTime, RunFolder, Settings, evaluate_ann, fit, fit_ann
from spikeloop.training.course import Course

SETTINGS = Settings(batch_size=20, learning_rate=0.02, schedule=Cosine(), seed=3)


def toy_data(samples: int = 100, seed: int = 1, jitter: float = 0.01) -> ArrayDataset:
    """Class k: input k is the largest; jittered anew in every batch."""
    inputs = torch.rand(samples, 6, generator=torch.Generator().manual_seed(seed))
    return ArrayDataset(inputs, inputs[:, :3].argmax(1), lambda x, g: x + jitter * torch.randn(x.shape, generator=g))


def toy_model() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


def on_array() -> nn.Module:
    return convert(toy_model(), toy_data().inputs)


def test_it_learns_in_floating_point_and_on_the_array() -> None:
    model, data, validation = toy_model(), toy_data(400), toy_data(200, 2, 0.0)
    history = fit_ann(model, data, SETTINGS, epochs=10, place=Float(), validation=validation).history
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["validation_accuracy"] == evaluate_ann(model, validation, Float()) > 0.9
    assert (history[-1]["spikes_per_sample"], history[-1]["floored"]) == (0, None)
    ours = convert(model, data.inputs)
    before = evaluate_ann(ours, validation, Quantised(20.0))
    learned = fit_ann(ours, data, SETTINGS, epochs=10, place=Quantised(20.0)).history
    assert before < history[-1]["validation_accuracy"]
    assert learned[-1]["loss"] < learned[0]["loss"]
    assert learned[-1]["validation_accuracy"] is None


def test_dropout_and_batch_norm_act_in_training_only() -> None:
    model, data = toy_model(), toy_data(jitter=0.0)
    mean = model.get_buffer("1.running_mean")
    fit_ann(model, data, SETTINGS, validation=data)
    learned = mean.clone()
    assert learned.any()
    assert len({evaluate_ann(model, data) for _ in range(5)}) == 1
    assert torch.equal(mean, learned)


def test_same_seed_same_weights() -> None:
    before, weights = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        model = on_array()
        torch.set_rng_state(before)
        fit_ann(model, toy_data(), replace(SETTINGS, seed=seed), place=Quantised(2.0))
        weights.append(model.get_parameter("0.weight").detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("make", [toy_model, on_array])
def test_ctrl_c_and_resume_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module]
) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    given = {"epochs": 3, "place": Quantised(2.0), "validation": toy_data(50, 2)}
    with monkeypatch.context() as patch:
        patch.setattr(Course, "step", interrupted_after(8, Course.step))
        with pytest.raises(KeyboardInterrupt, match="stopped after step 3 of epoch 1.*resume=True"):
            fit_ann(make(), toy_data(), SETTINGS, folder=stopped, **given)
    resumed, model = make(), make()
    fit_ann(resumed, toy_data(), SETTINGS, folder=stopped, resume=True, **given)
    fit_ann(model, toy_data(), SETTINGS, folder=whole, **given)
    (tensors, _), (others, _) = (checkpoint.load(path / "checkpoint.safetensors") for path in (stopped, whole))
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert value.equal(others[name]), name
    seen = [[line["validation_accuracy"] for line in RunFolder(path).read_metrics()] for path in (stopped, whole)]
    assert seen[0] == seen[1]
    loaded = make()
    RunFolder(whole).load_network(loaded)
    for value, other in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True):
        assert value.equal(other)


def test_a_run_of_another_model_or_place_is_not_resumed(tmp_path: Path) -> None:
    fit_ann(on_array(), toy_data(), SETTINGS, folder=tmp_path)
    with pytest.raises(CheckpointError, match="there is a run already"):
        fit_ann(on_array(), toy_data(), SETTINGS, folder=tmp_path)
    with pytest.raises(CheckpointError, match="the run in it was made with place"):
        fit_ann(on_array(), toy_data(), SETTINGS, place=Quantised(1.0), folder=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="the run in it was made with network"):
        fit_ann(toy_model(), toy_data(), SETTINGS, folder=tmp_path, resume=True)


def test_the_largest_output_names_the_class() -> None:
    outputs, label = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.5, 3.0]]), torch.tensor([0, 1])
    assert HighestOutput().decide(outputs).tolist() == [0, 2]
    shares = outputs.log_softmax(1)
    assert HighestOutput().loss(outputs, label).item() == pytest.approx(-shares[[0, 1], label].mean().item())
    smoothed = -(0.7 * shares[[0, 1], label] + 0.3 * shares.mean(1)).mean()
    assert HighestOutput(0.3).loss(outputs, label).item() == pytest.approx(smoothed.item())


def test_readouts_are_told_apart() -> None:
    with pytest.raises(WrongType, match="readout: the readout is a MaxOverTime.*HighestOutput"):
        fit_ann(toy_model(), toy_data(), replace(SETTINGS, readout=MaxOverTime()))
    network = Network({"input": Population(4), "output": Population(3, LI(0.02, 0.005))},
                      [Projection("input", "output", torch.zeros(4, 3))])  # fmt: skip
    data = EventDataset(Events.from_lists([[0.01]], [[0]], 4), [0], duration=0.02)
    with pytest.raises(WrongType, match="readout: .*no spikes"):
        fit(network, data, replace(SETTINGS, readout=HighestOutput()))
