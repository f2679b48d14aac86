"""512 unlike neurons find weights with which all of them spike at one rate, within some 100 updates."""

import os

import matplotlib.pyplot as plt
import torch

from spikeloop import LIF, Events, Ideal, Network, OnChip, Population, Projection, plot, run
from spikeloop.chip.twin import Twin
from spikeloop.plasticity import Homeostasis, Plasticity

torch.manual_seed(0)
place = OnChip(Twin(0, step=32)) if "TWIN" in os.environ else Ideal()
neurons, sources, rate, period = 64 if "QUICK" in os.environ else 512, 16, 40.0, 2.0
updates, target = 100, 12  # spikes per period: 6 per second
rule = Plasticity(Homeostasis(target, step=1 / 64), w_max=1.0, period=period, sensor=None)
threshold = 1 + 0.2 * torch.randn(neurons, dtype=torch.float64).clamp(-2.5, 2.5)  # like a chip's before calibration
net = Network(
    {"input": Population(sources), "output": Population(neurons, LIF(20e-3, 5e-3, threshold=threshold))},
    [Projection("input", "output", torch.full((sources, neurons), 0.25), plasticity=rule)],
)
duration = updates * period
counts = torch.poisson(torch.full((sources,), rate * duration)).int().tolist()
drive = Events.from_trains([[duration * torch.rand(count) for count in counts]])

record = run(net, drive, duration, substrate=place)

spikes = record.spikes["output"].raster(period, duration)[0].double() / period
early, late = spikes[:5].mean(0), spikes[-20:].mean(0)
for name, rates in (("first 5", early), ("last 20", late)):
    print(f"{name} updates: {rates.mean():.2f} spikes / s, spread over neurons {rates.std() / rates.mean():.0%}")
fig, ax = plt.subplots(layout="constrained")
plot.over_updates(spikes, "Rate (1 / s)", target / period, ax=ax)
fig.savefig("homeostasis.png", dpi=150)
