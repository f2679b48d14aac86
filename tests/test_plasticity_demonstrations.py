"""What is published of plasticity, in the quick form of the examples, with numbers."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeloop import OnChip, run
from spikeloop.apps.pong import Court, Pong, learn, play, reward_of
from spikeloop.chip.correlation import FULL, windows
from spikeloop.chip.sensing import sensors_of
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.chip.twin import Twin
from spikeloop.errors import OutOfRange, ShapeMismatch
from spikeloop.plasticity import fit_window

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Runs an example in its quick form; returns its names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUICK", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def run(name):
        with torch.random.fork_rng(devices=[]):
            return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

    return run


def test_the_window_is_that_of_the_sensor(example):
    names = example("stdp_window")
    assert names["found"].taus == pytest.approx(names["sensor"].taus, rel=0.05)
    assert names["found"].amplitudes == pytest.approx(names["sensor"].amplitudes, rel=0.05)


def test_weights_come_to_rest_where_theory_says(example):
    names = example("stdp_fixed_point")
    assert 0.3 < names["theory"] < 0.6
    assert float(names["late"].mean()) == pytest.approx(names["theory"], rel=0.05)
    assert float(names["history"][0].std()) > 0.2  # from all over the range
    assert float(names["history"][-1].std()) < 0.15


def test_unlike_neurons_come_to_one_rate(example):
    names = example("homeostasis")
    target = names["target"] / names["period"]
    assert float(names["early"].std() / names["early"].mean()) > 0.5
    assert float(names["late"].mean()) == pytest.approx(target, rel=0.05)
    assert float(names["late"].std() / names["late"].mean()) < 0.1


def test_a_small_player_learns_pong():
    """On average over three players: how far one comes in so few epochs is a matter of chance."""
    pong = Pong(positions=12, cooled=100)
    games = [learn(pong, 60, seed=seed) for seed in range(3)]
    assert np.mean([learning.reward[:10] for learning in games]) < 0.35
    assert np.mean([learning.reward[-10:] for learning in games]) > 0.6
    assert np.mean([play(pong, learning.weight, 400) for learning in games]) >= 0.6
    mirrored = [learning.weight[:, ::-1].copy() for learning in games]  # the same weights
    assert np.mean([play(pong, weight, 400) for weight in mirrored]) <= 0.3


def test_a_ball_bounces_and_is_met_where_the_paddle_is():
    court = Court(np.array([0.95, 0.52]), np.array([0.1, -0.1]), paddle=0.43)
    hits = [court.step(0.43) for _ in range(6)]
    assert hits == [None] * 5 + [True]  # at 0.95, off the wall at 1, down at 0.45
    assert court.ball.tolist() == pytest.approx([0.45, 0.08])
    assert court.velocity.tolist() == pytest.approx([-0.1, 0.1])
    away = Court(np.array([0.1, 0.05]), np.array([0.0, -0.1]), paddle=0.5, reach=0.1)
    assert away.step(0.1) is False
    assert away.paddle == pytest.approx(0.4)


def test_rewards_fall_with_distance():
    assert [reward_of(distance) for distance in range(9)] == [4, 3, 2, 2, 1, 1, 0, -1, -1]


def test_a_window_that_cannot_be_fitted_is_refused():
    with pytest.raises(OutOfRange, match="1 points on one side"):
        fit_window([1e-3, -1e-3, -2e-3, -3e-3], [1.0, -1.0, -0.9, -0.8])
    with pytest.raises(ShapeMismatch):
        fit_window([1e-3], [1.0, 2.0])
    with pytest.raises(OutOfRange, match="do not fall off"):
        fit_window([1e-3, 2e-3, 3e-3, -1e-3, -2e-3, -3e-3], [1.0, 2.0, 4.0, 1.0, 0.9, 0.8])


# ---- on a twin -------------------------------------------------------------------------------------------------------


def test_the_window_is_that_of_the_synapse_of_a_twin(example, monkeypatch):
    monkeypatch.setenv("TWIN", "1")
    names = example("stdp_window")
    net, chip, found = names["net"], names["place"].chip, names["found"]
    synapse = setup_of(net, Wish(chip, 1000.0, 1, None, strict=False, cache=True)).placement.synapse
    steps, tau = windows(sensors_of(net, synapse, 1000.0), chip.seed, chip.pattern().strengths)
    flat = synapse["input_to_output"].item()
    assert found.taus == pytest.approx(tau[:, flat] * 1e3, rel=0.25)
    assert found.amplitudes == pytest.approx(steps[:, flat] / FULL, rel=0.25)
    asked = names["sensor"]
    assert found.amplitudes[0] > 2 * asked.amplitudes[0]  # the chip's own, not what was asked for
    assert found.taus[1] < 0.8 * asked.taus[1]


def test_unlike_neurons_of_a_twin_come_to_one_rate(example, monkeypatch):
    monkeypatch.setenv("TWIN", "1")
    names = example("homeostasis")
    assert isinstance(names["place"].chip, Twin)
    assert float(names["early"].std() / names["early"].mean()) > 0.5
    assert float(names["late"].mean()) == pytest.approx(names["target"] / names["period"], rel=0.06)
    assert float(names["late"].std() / names["late"].mean()) < 0.1


def test_a_small_player_learns_pong_on_a_twin():
    """Measured on chips 7, 8 and 9: 0.10 to 0.16 after the first epoch, 0.60 to 0.68 in the last ten."""
    pong = Pong(20, noise=(15 / 64, 2 / 64), cooled=60, winners=True, rate=0.08, quiet=5)
    reward = learn(pong, 30, OnChip(Twin(7, step=32))).reward
    each = np.array([[reward_of(abs(place - ball)) / 4 for ball in range(20)] for place in range(20)])
    chance, always_there = each.mean(), each.mean(1).max()
    assert chance < always_there < 0.25
    assert reward[0] < 0.25
    assert reward[-10:].mean() > 0.5
    assert reward[-10:].min() > always_there + 0.2


def test_ambition_unlearns_what_is_only_as_good_as_ever():
    """Of two players whose mean reward is 2, the ambitious one has lower weights after a play, where it won."""
    left = {}
    for ambition in (0.0, 0.5):
        pong = Pong(8, quiet=0, winners=True, ambition=ambition)
        network = pong.network()
        network.programs["learn"].state["mean_reward"][:] = 2.0
        with torch.no_grad():
            network.projections["input_to_output"].weight.mul_(3.0)
        record = run(network, pong.drive(np.arange(1)), pong.period)
        left[ambition] = record.weights["input_to_output"][0].numpy(), record.count["output"][0].detach().numpy()
    (plain, counts), (ambitious, same) = left[0.0], left[0.5]
    np.testing.assert_array_equal(counts, same)
    lost = plain - ambitious
    won = counts == counts.max()
    assert (lost[:, ~won] == 0).all()
    assert (lost[:4, won] > 0).all()
    assert (lost[4:] == 0).all()
