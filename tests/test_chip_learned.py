"""What rules come to on a chip whose sensors differ from synapse to synapse: fixed points, and measured windows."""

import numpy as np
import pytest
import torch
from chips import IDEAL, by_the_laws, ready
from scripts import benchmark

from spikeloop import LIF, Events, Network, Observe, Population, Projection, Twin, run
from spikeloop.chip.twin import EVERYTHING, Imperfection
from spikeloop.plasticity import Correlation, MultiplicativeSTDP, Plasticity

SENSORS_DIFFER = Twin(7, ideal=EVERYTHING - {Imperfection.CORRELATION})
NAME = "input_to_cells"


def settled(twin: Twin, updates: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Of synapses that sense something, in the second half of the updates: mean weight, and c+ / (c+ + c-) read."""
    period, random = 20e-3, torch.Generator().manual_seed(0)

    def kernel(view) -> None:
        view.record("causal", np.asarray(view.causal))
        view.record("anticausal", np.asarray(view.anticausal))
        MultiplicativeSTDP(12.0, 12.0)(view)

    rule = Plasticity(kernel, w_max=0.6, period=period, sensor=Correlation(5e-3, 1 / 128))
    net = Network(
        {"input": Population(size), "cells": Population(size, LIF(6e-3, 6e-3, refractory=2e-3))},
        [Projection("input", "cells", torch.full((size, size), 0.2), plasticity=rule)],
    )
    count, duration = int(size * 100 * updates * period), updates * period
    time = torch.rand(count, generator=random, dtype=torch.float64) * duration
    drive = Events.from_lists([time], [torch.randint(0, size, (count,), generator=random)], size)
    record = run(net, drive, duration, substrate=ready(net, twin), observe=Observe(history={NAME}), number=1)
    half = updates // 2
    causal, anticausal = (record.recorded[NAME][each].value[half:, 0].numpy().mean(0)
                          for each in ("causal", "anticausal"))  # fmt: skip
    weight = record.history[NAME].value[half:, 0].numpy().mean(0) / 0.6
    senses = causal + anticausal > 0  # a weak sensor may never reach half a step
    assert senses.mean() > 0.95
    return weight[senses], (causal / np.maximum(causal + anticausal, 1e-9))[senses]


@pytest.mark.parametrize("twin", [IDEAL, SENSORS_DIFFER], ids=["alike", "different"])
def test_multiplicative_stdp_settles_where_each_synapses_own_changes_cancel(twin: Twin) -> None:
    """6-bit weights rounded at random, products cut off below the last bit and readings of 7 bits leave no bias."""
    weight, theory = settled(twin, 160)
    assert weight.mean() == pytest.approx(theory.mean(), rel=0.02)
    if twin is SENSORS_DIFFER:
        assert theory.std() > 0.15
        assert np.corrcoef(weight, theory)[0, 1] > 0.95


def test_a_short_run_from_below_has_not_settled_yet() -> None:
    weight, theory = settled(IDEAL, 10)
    assert weight.mean() < 0.97 * theory.mean()


def test_windows_of_unlike_synapses_are_recovered_one_by_one() -> None:
    script = benchmark("twin_window")
    net = script.window_network(24, [1.0])
    windows = script.measure(SENSORS_DIFFER, neurons=24, points=8, calibration=by_the_laws(SENSORS_DIFFER, net))
    found = windows.found
    assert found.mean() > 0.8
    for value, true in ((windows.amplitude, windows.true_amplitude), (windows.tau, windows.true_tau)):
        off = np.log(value[found] / true[found])
        assert np.log(true).std() > 0.4
        assert abs(np.median(off)) < 0.03
        assert np.median(np.abs(off)) < 0.06
