"""Measure the window of spike-timing-dependent plasticity: a pair of spikes at each of many distances."""

import os

import matplotlib.pyplot as plt
import torch

from spikeloop import LIF, Events, Network, Population, Projection, plot, run
from spikeloop.plasticity import AdditiveSTDP, Correlation, Plasticity, fit_window

pairs, apart = (5, 21) if "QUICK" in os.environ else (20, 81)
sensor = Correlation(tau=(10e-3, 20e-3), amplitude=(1e-3, 0.5e-3))  # fractions of the weight's range, too
rule = Plasticity(AdditiveSTDP(), w_max=1.0, period=1.0 * pairs, sensor=sensor)
net = Network(
    {"input": Population(1), "teacher": Population(1), "output": Population(1, LIF(1e-3, 1e-3, refractory=5e-3))},
    [
        Projection("input", "output", torch.tensor([[0.05]]), plasticity=rule),
        Projection("teacher", "output", torch.tensor([[50.0]])),  # makes it spike at once
    ],
)

delta = torch.linspace(-50e-3, 50e-3, apart, dtype=torch.float64)  # one sample each
early = torch.arange(pairs) + 0.5
drive = {
    "input": Events.from_lists([early] * apart, [torch.zeros(pairs)] * apart, 1),
    "teacher": Events.from_lists([early + d for d in delta], [torch.zeros(pairs)] * apart, 1),
}
record = run(net, drive, 1.0 * pairs)

spikes = record.spikes["output"].time.detach().view(apart, pairs)
measured = (spikes - drive["input"].time.view(apart, pairs)).mean(1)  # as they were, not as they were meant
change = record.weights["input_to_output"].flatten() - 0.05
found = fit_window(measured, change, pairs)
print(f"tau {found.taus[0] * 1e3:.2f} and {found.taus[1] * 1e3:.2f} ms, amplitudes {found.amplitudes}")
fig, ax = plt.subplots(layout="constrained")
plot.stdp_window(measured, change / pairs, found, ax=ax)
fig.savefig("stdp_window.png", dpi=150)
