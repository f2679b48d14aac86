"""fit and evaluate: what they learn, write, refuse, and that a stop leaves no trace."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spikeloop import LI, LIF, EventProp, Events, Network, Population, Projection, checkpoint, feedforward
from spikeloop.data import EventDataset, YinYang
from spikeloop.errors import CheckpointError, InvalidNetwork, OutOfRange
from spikeloop.protocols import Cotangent, Gradients, Observe, Trial
from spikeloop.record import Peak, Record
from spikeloop.training import (
    Adam,
    Cosine,
    Decay,
    LiftSilent,
    MaxOverTime,
    Progress,
    Settings,
    SpikePenalty,
    evaluate,
    fit,
    readout_of,
)
from spikeloop.training.fused import FusedAdam

TIMING = ("seconds", "samples_per_second")


class Counting:
    """A place without dynamics: the output's peak is the sum of the weights of the spikes that arrive."""

    def offers(self, network: Network) -> Observe:
        return Observe(peak={"output"})

    def run(self, trial: Trial) -> Record:
        value = trial.drive["input"].count @ trial.network.projection("input", "output").weight
        return Record(trial.drive, trial.duration, peak={"output": Peak(torch.zeros(value.shape), value)})


class CountingRule:
    """The gradient of `Counting`; presses Ctrl-C in the middle of step `interrupt_at`, counted from 1."""

    accepts = frozenset({"peak"})

    def __init__(self, interrupt_at: int = 0) -> None:
        self.left = interrupt_at

    def needs(self, network: Network) -> Observe:
        return Observe()

    def vjp(self, trial: Trial, record: Record, cotangent: Cotangent) -> Gradients:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return {("input_to_output", "weight"): trial.drive["input"].count.T @ cotangent.peak["output"]}


def toy_data(samples: int = 70) -> EventDataset:
    """Class k: most spikes come from unit k."""
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(3, (samples,), generator=generator)
    other = torch.randint(4, (samples, 8), generator=generator)
    unit = torch.where(torch.rand(samples, 8, generator=generator) < 0.6, label[:, None], other)
    time = torch.rand(samples, 8, generator=generator, dtype=torch.float64) * 0.01
    return EventDataset(Events.from_padded(time, unit, 4), label)


def toy_network(dropout: float = 0.2) -> Network:
    populations = {"input": Population(4, dropout=dropout), "output": Population(3, LI(0.02, 0.005))}
    return Network(populations, [Projection("input", "output", torch.zeros(4, 3))])


TOY = Settings(duration=0.02, batch_size=16, learning_rate=0.1, schedule=Cosine(), seed=3)


def fit_toy(network: Network, data: EventDataset, **options: object) -> list[dict[str, float]]:
    given = {"epochs": 3, "substrate": Counting(), "rule": CountingRule(), **options}
    settings = given.pop("settings", TOY)
    return list(fit(network, data, settings, **given).history)  # type: ignore[arg-type]


def untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name not in TIMING} for line in history]


def same_end(one: Path, other: Path) -> None:
    """The checkpoints in two run folders are equal bit for bit, but for what a clock showed."""
    (tensors, meta), (others, other_meta) = (checkpoint.load(path / "checkpoint.safetensors") for path in (one, other))
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert value.dtype == others[name].dtype
        assert value.numpy().tobytes() == others[name].numpy().tobytes(), name
    assert untimed(meta.pop("history")) == untimed(other_meta.pop("history"))
    for record in (meta, other_meta):
        record["sums"].pop("seconds")
    assert meta == other_meta


def test_fit_learns_and_reports() -> None:
    network, data, seen = toy_network(), toy_data(), list[Progress]()
    history = fit_toy(network, data, epochs=8, validation=toy_data(20), watch=seen.append)
    assert [line["epoch"] for line in history] == list(range(8))
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["accuracy"] > 0.7  # with dropout
    assert history[-1]["validation_accuracy"] > 0.9
    assert history[-1]["validation_accuracy"] == evaluate(network, toy_data(20), Counting(), settings=TOY)
    assert history[-1]["spikes_per_sample"] == 0  # only neurons count, and there are none that spike
    assert seen[-1].epoch == 7
    assert seen[-1].step == seen[-1].steps == 5
    assert seen[-1].loss == pytest.approx(history[-1]["loss"])


def test_same_seed_same_result_and_global_generator_untouched() -> None:
    data, before = toy_data(), torch.get_rng_state()
    weights = []
    for seed in (0, 0, 1):
        network = toy_network()
        fit_toy(network, data, settings=replace(TOY, seed=seed))
        weights.append(network.projection("input", "output").weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("optimizer", [Adam(), Adam(beta2=0.9), lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
@pytest.mark.parametrize("stop_after", [1, 5, 7])
def test_ctrl_c_and_resume_leave_no_trace(tmp_path: Path, optimizer: object, stop_after: int) -> None:
    data, settings = toy_data(), replace(TOY, optimizer=optimizer, learning_rate=0.01)
    whole = toy_network()
    history = fit_toy(whole, data, settings=settings, folder=tmp_path / "whole")
    stopped = toy_network()
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        fit_toy(stopped, data, settings=settings, folder=tmp_path / "stopped", rule=CountingRule(stop_after))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        resumed = toy_network()
        more = fit_toy(resumed, data, settings=settings, folder=tmp_path / "stopped", resume=True)
    assert untimed(history) == untimed(more)
    assert torch.equal(whole.projection("input", "output").weight, resumed.projection("input", "output").weight)
    same_end(tmp_path / "whole", tmp_path / "stopped")


def test_ctrl_c_without_folder_says_so() -> None:
    with pytest.raises(KeyboardInterrupt, match="cannot be resumed"):
        fit_toy(toy_network(), toy_data(), rule=CountingRule(2))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_the_last_validation_is_not_lost(tmp_path: Path) -> None:
    class Pressed(Counting):
        def run(self, trial: Trial) -> Record:
            if not trial.training:
                os.kill(os.getpid(), signal.SIGINT)
            return super().run(trial)

    with pytest.raises(KeyboardInterrupt, match="stopped after step 0 of epoch 1"):
        fit_toy(toy_network(), toy_data(), epochs=1, folder=tmp_path, substrate=Pressed(), validation=toy_data(20))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_the_share_of_floored_slopes_is_reported() -> None:
    data, settings = YinYang("train", size=64), Settings(duration=0.06)
    for floor, share in ((0.0, 0.0), (1e3, 1.0)):
        network = feedforward([5, 10, 3], LIF(0.02, 0.005))
        assert fit(network, data, settings, rule=EventProp(floor)).history[0]["floored"] == share
    assert fit_toy(toy_network(), toy_data())[0]["floored"] is None


def test_run_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    history = fit_toy(toy_network(), toy_data(), folder=folder, settings=replace(TOY, note={"who": "me"}))
    config = json.loads((folder / "config.json").read_text())
    assert config["epochs"] == 3
    assert config["schedule"] == {"type": "Cosine", "floor": 0.0}
    assert config["readout"] == {"type": "MaxOverTime", "population": "output", "scale": 10.0}
    assert config["note"] == {"who": "me"}
    assert [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] == history
    assert not list(folder.glob("*.part"))


def test_a_torn_or_hasty_metrics_line_does_no_harm(tmp_path: Path) -> None:
    data = toy_data()
    fit_toy(toy_network(), data, folder=tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "loss": 0.1}\n{"epoch": 4, "lo')
    history = fit_toy(toy_network(), data, folder=tmp_path, epochs=4, resume=True)
    assert [line["epoch"] for line in history] == [0, 1, 2, 3]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    fit_toy(toy_network(), toy_data(), folder=tmp_path)
    with pytest.raises(CheckpointError, match="there is a run already"):
        fit_toy(toy_network(), toy_data(), folder=tmp_path)


def test_resume_refuses_other_settings_and_networks(tmp_path: Path) -> None:
    fit_toy(toy_network(), toy_data(), folder=tmp_path)
    with pytest.raises(CheckpointError, match="learning_rate = 0.1, not 0.2"):
        fit_toy(toy_network(), toy_data(), folder=tmp_path, resume=True, settings=replace(TOY, learning_rate=0.2))
    wider = Network(
        {"input": Population(4), "output": Population(5, LI(0.02, 0.005))},
        [Projection("input", "output", torch.zeros(4, 5))],
    )
    with pytest.raises(CheckpointError, match="network"):
        fit_toy(wider, toy_data(), folder=tmp_path, resume=True)


def test_resume_without_a_run_begins_one_and_a_finished_one_is_done(tmp_path: Path) -> None:
    history = fit_toy(toy_network(), toy_data(), folder=tmp_path, resume=True)
    network = toy_network()
    assert fit_toy(network, toy_data(), folder=tmp_path, resume=True) == history
    assert bool(network.projection("input", "output").weight.any())


def test_nothing_to_train_and_no_duration() -> None:
    frozen = toy_network().requires_grad_(False)
    with pytest.raises(InvalidNetwork, match="no parameter requires a gradient"):
        fit_toy(frozen, toy_data())
    with pytest.raises(OutOfRange, match="duration"):
        fit_toy(toy_network(), toy_data(), settings=replace(TOY, duration=None))
    with pytest.raises(OutOfRange, match="empty"):
        fit_toy(toy_network(), toy_data().subset(slice(0)))


def test_silence_is_wrong() -> None:
    network = feedforward([5, 4, 3], LIF(0.02, 0.005), weight=[torch.zeros(5, 4), torch.zeros(4, 3)])
    assert evaluate(network, YinYang("test", size=50), settings=Settings(duration=0.06)) == 0.0


def test_readout_of_the_last_population() -> None:
    assert readout_of(toy_network()) == MaxOverTime("output")
    spiking = readout_of(feedforward([2, 2], LIF(0.02, 0.005)))
    assert type(spiking).__name__ == "FirstSpike"


def test_schedules() -> None:
    assert [Decay(0.5)(epoch, 3) for epoch in (0.0, 0.9, 1.0, 2.5)] == [1.0, 1.0, 0.5, 0.25]
    assert [Cosine()(epoch, 2) for epoch in (0.0, 1.0, 2.0)] == pytest.approx([1.0, 0.5, 0.0])


def test_lift_silent_wakes_a_silent_layer() -> None:
    network = feedforward([5, 10, 3], LIF(0.02, 0.005), weight=[torch.full((5, 10), 0.05), torch.full((10, 3), 0.3)])
    data = YinYang("train", size=64)
    settings = Settings(
        duration=0.06, batch_size=16, learning_rate=0.05, optimizer=Adam(beta2=0.95), regulariser=LiftSilent()
    )
    history = fit(network, data, settings, epochs=15).history
    assert history[0]["spikes_per_sample"] < 1
    assert history[-1]["spikes_per_sample"] > 5


def test_the_penalty_of_spikes() -> None:
    record = Record({}, 0.02, count={"hidden": torch.tensor([[1.0, 2.0], [0.0, 3.0]])})
    assert SpikePenalty(strength=0.5)(record).item() == 0.5 * (1 + 4 + 9) / 2


def test_the_lean_adam_is_torchs() -> None:
    def trained(kind: type[torch.optim.Adam], switch_after: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(size, generator=generator)) for size in ((5, 7), (7, 3), (2,))]
        optimizer: torch.optim.Adam = kind(weights, lr=1e-2, betas=(0.9, 0.95), fused=True)
        for step in range(20):
            for k, weight in enumerate(weights):  # the last one has no gradient now and then
                weight.grad = None if k == 2 and step % 3 == 0 else torch.randn(weight.shape, generator=generator)
            optimizer.param_groups[0]["lr"] = 1e-2 / (1 + step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=step % 2 == 0)
            assert all(weight.grad is None or not weight.grad.any() for weight in weights)
            if step == switch_after:
                state = optimizer.state_dict()
                optimizer = FusedAdam(weights, lr=1.0, fused=True)
                optimizer.load_state_dict(state)
        return weights

    expected = trained(torch.optim.Adam, -1)
    for kind, switch_after in ((FusedAdam, -1), (torch.optim.Adam, 7)):
        for found, weight in zip(trained(kind, switch_after), expected, strict=True):
            torch.testing.assert_close(found, weight, rtol=2e-6, atol=1e-7)
