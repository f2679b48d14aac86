"""A twin in steps of several cycles: nearly the run in steps of one, and any cut on the grid changes nothing."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from chips import IDEAL, ready
from scipy import stats
from test_chip_ppu import NAME, between, drive, network
from test_chip_stepwise import CYCLES, NETWORKS, assert_the_same, case, in_parts, noisy

from spikeloop import Observe, run
from spikeloop.chip.configuration import AddressedEvents, Configuration, Readout
from spikeloop.chip.mismatch import Noise
from spikeloop.chip.twin import Imperfection, Twin
from spikeloop.errors import OutOfRange
from spikeloop.plasticity.rules import AdditiveSTDP

PUNCTUAL = frozenset({Imperfection.JITTER, Imperfection.CAPACITY})
WHOLE = 188 * 32
"""Cycles: more than `CYCLES`, and whole steps."""


def by_circuit(out: Readout) -> dict[tuple[int, int], np.ndarray]:
    sample = np.repeat(np.arange(len(out.start) - 1), np.diff(out.start))
    keys = {(int(b), int(a)) for b, a in zip(sample, out.address, strict=True)}
    return {(b, a): out.cycle[(sample == b) & (out.address == a)] for b, a in keys}


@pytest.mark.parametrize(
    ("step", "limits", "punctual"), [(4, False, 0.99), (16, False, 0.99), (32, False, 0.94), (16, True, 0.85)]
)
@pytest.mark.parametrize("name", ["feedforward", "readout", "two circuits a neuron"])
def test_spikes_and_membranes_are_those_of_single_cycles(name: str, step: int, limits: bool, punctual: float) -> None:
    """As many spikes, in the same cycle or the next (``punctual`` of them at least), and the same readings.

    Less so where currents reach their limits, which arrivals of both signs in one step meet together.
    """
    torch.manual_seed(0)
    one = Twin(7, noise=0.0, ideal=PUNCTUAL if limits else PUNCTUAL | {Imperfection.SATURATION})
    configuration, sent = case(NETWORKS[name](), one)
    outs = [each.emulate(configuration, sent, WHOLE, keep=True) for each in (one, replace(one, step=step))]
    before, after = map(by_circuit, outs)
    assert before.keys() == after.keys()
    away = np.concatenate([np.abs(before[k] - after[k]) for k in before if len(before[k]) == len(after[k])])
    assert 100 < len(outs[0].cycle) < 1.02 * len(away)
    assert np.mean(away <= 1) >= punctual
    assert np.mean(away == 0) >= 0.8
    if not limits:
        for reading in ("cadc", "madc"):
            differ = np.abs(getattr(outs[0], reading).astype(int) - getattr(outs[1], reading).astype(int))
            assert np.mean(differ > 1) < 1 - punctual


class Whole(Twin):
    """Runs on to the end of a step."""

    def emulate(self, configuration: Configuration, drive: AddressedEvents, cycles: int, **options) -> Readout:
        return super().emulate(configuration, drive, -(-cycles // 32) * 32, **options)


def test_in_law_it_is_the_exact_path() -> None:
    noise = Noise(jitter=0.0, threshold_spike=0.01)
    pairs = list(zip(noisy(Whole(7, noise=noise), False), noisy(Whole(7, noise=noise, step=32), True), strict=True))
    assert len(pairs) >= 6
    assert max(one[one >= 0].std() for one, _ in pairs) > 30  # the noise matters
    assert min(stats.ks_2samp(one, other, method="asymp").pvalue for one, other in pairs) > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_on_the_grid_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    twin = Twin(7, step=16)
    configuration, sent = case(NETWORKS[name](), twin)
    whole = twin.emulate(configuration, sent, CYCLES, keep=True)
    assert len(whole.cycle) > 100
    random = np.random.default_rng(1)
    for cuts in (1, 2, 5):
        edges = (16 * np.unique(random.integers(1, CYCLES // 16, cuts))).tolist()
        assert_the_same(whole, in_parts(twin, configuration, sent, edges))


@pytest.mark.parametrize("chip", [replace(IDEAL, step=16), Twin(7, step=16)], ids=["ideal", "7"])
def test_calls_may_lie_between_steps_and_a_cut_changes_nothing(chip: Twin) -> None:
    """Calls every 2500 cycles, of which every fourth lies on the grid; cuts at calls and at whole steps."""
    torch.manual_seed(0)
    net = network(AdditiveSTDP())
    substrate, sent = ready(net, chip), drive()
    wish = Observe(state=True, history={NAME})
    whole = run(net, sent, 100e-3, substrate=substrate, observe=wish, number=1)
    assert len(whole.history[NAME].time) == 5
    state, parts = None, []
    for low, high in pairwise((0.0, 32e-3, 40e-3, 76.8e-3, 100e-3)):
        part = between(sent, low, high, high == 100e-3)
        parts.append(run(net, part, high - low, substrate=substrate, observe=wish, start=state, number=1))
        state = parts[-1].state
    assert torch.equal(whole.weights[NAME], parts[-1].weights[NAME])
    for b in range(2):
        times = torch.cat([part.spikes["hidden"][b].time for part in parts])
        assert len(times) > 20
        assert torch.equal(whole.spikes["hidden"][b].time, times)


def test_learning_in_long_steps_is_learning_in_short_ones() -> None:
    torch.manual_seed(0)
    net = network(AdditiveSTDP())
    chip = Twin(7, noise=0.0, ideal=PUNCTUAL)
    one, several = (
        run(net, drive(batch=1), 100e-3, substrate=ready(net, replace(chip, step=step)), number=1) for step in (1, 32)
    )
    assert len(one.spikes["hidden"].time) == len(several.spikes["hidden"].time) > 20
    assert (one.spikes["hidden"].time - several.spikes["hidden"].time).abs().max() < 1.5 * 8e-6
    assert (one.weights[NAME] == several.weights[NAME]).double().mean() > 0.9  # a reading between steps may be rounded


def test_what_cannot_be_is_said() -> None:
    torch.manual_seed(0)
    with pytest.raises(OutOfRange, match="step is 3"):
        Twin(7, step=3)
    configuration, sent = case(NETWORKS["feedforward"](), IDEAL)
    with pytest.raises(OutOfRange, match=r"step is 1024 cycles(.|\n)*at most 64"):
        replace(IDEAL, step=1024).emulate(configuration, sent, 2048, keep=True)
    with pytest.raises(OutOfRange, match=r"ends at cycle 6004, within a step(.|\n)*step=4"):
        replace(IDEAL, step=16).emulate(configuration, sent, 6004, keep=True)
    net = network(AdditiveSTDP())
    with pytest.raises(OutOfRange, match="within a step"):
        run(net, drive(until=90e-3), 91e-3, substrate=ready(net, Twin(7, step=16)))
