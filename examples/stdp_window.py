"""Measure the window of spike-timing-dependent plasticity: a pair of spikes at each of many distances."""

import os

import matplotlib.pyplot as plt
import torch

from spikeloop import LIF, Events, Ideal, Network, OnChip, Population, Projection, plot, run
from spikeloop.chip.twin import Twin
from spikeloop.plasticity import AdditiveSTDP, Correlation, Plasticity, fit_window

pairs, apart, gap, gain = 20, 21 if "QUICK" in os.environ else 81, 0.25, 2.0
place, sensor = Ideal(), Correlation(tau=(10e-3, 20e-3), amplitude=(4e-3, 2e-3))  # fractions of the weight's range, too
if "TWIN" in os.environ:  # a synapse's two sensors are set alike there, and turn out as they are
    place, sensor = OnChip(Twin(0, step=32)), Correlation(tau=10e-3, amplitude=4e-3)
rule = Plasticity(AdditiveSTDP(gain, gain), w_max=1.0, period=gap * pairs, sensor=sensor)
net = Network(
    {"input": Population(1), "teacher": Population(8), "output": Population(1, LIF(10e-3, 6e-3, refractory=25e-3))},
    [
        Projection("input", "output", torch.tensor([[0.5]]), plasticity=rule),
        Projection("teacher", "output", torch.ones(8, 1)),  # together they make it spike
    ],
)

delta = torch.linspace(-50e-3, 50e-3, apart, dtype=torch.float64)  # one sample each
early = gap * (torch.arange(pairs) + 0.5)
drive = {
    "input": Events.from_lists([early] * apart, [torch.zeros(pairs)] * apart, 1),
    "teacher": Events.from_trains([[early + d] * 8 for d in delta]),
}
record = run(net, drive, gap * pairs, substrate=place)

spikes = record.spikes["output"].time.detach().view(apart, pairs)
measured = (spikes - drive["input"].time.view(apart, pairs)).mean(1)  # as they were, not as they were meant
change = (record.weights["input_to_output"].flatten() - 0.5) / gain
found = fit_window(measured, change, pairs)
print(f"tau {found.taus[0] * 1e3:.2f} and {found.taus[1] * 1e3:.2f} ms, amplitudes {found.amplitudes}")
fig, ax = plt.subplots(layout="constrained")
plot.stdp_window(measured, change / pairs, found, ax=ax)
fig.savefig("stdp_window.png", dpi=150)
