"""Record hidden membranes and draw them below the spikes."""

import matplotlib.pyplot as plt
import torch

from spikeloop import LIF, Every, Ideal, Observe, feedforward, plot, run
from spikeloop.data import YinYang

torch.manual_seed(0)
net = feedforward([5, 120, 3], LIF(tau_mem=20e-3, tau_syn=5e-3))
drive = YinYang("test").events[:8]
place = Ideal()

record = run(net, drive, 60e-3, substrate=place, observe=Observe(membrane={"hidden": Every(0.2e-3, neurons=[0, 1, 2])}))
fig, (top, bottom) = plt.subplots(2, sharex=True, layout="constrained")
plot.raster(record.spikes["hidden"], sample=0, ax=top)
plot.membrane(record, "hidden", sample=0, ax=bottom)  # threshold line and spikes drawn, seconds shown as ms
fig.savefig("membranes.png", dpi=150)
