"""Learn Yin-Yang in the loop with a chip's twin: spikes from the chip, gradients from software.

One input event cannot make a neuron spike on BrainScaleS-2, so each input takes five rows of synapses.
"""

import os

import torch

from spikeloop import LIF, EventProp, Experiment, OnChip, Twin, feedforward
from spikeloop.data import YinYang, loader
from spikeloop.loss import first_spike_class, first_spike_cross_entropy

quick = "QUICK" in os.environ  # a smoke test
torch.manual_seed(0)
net = feedforward([5, 120, 3], LIF(tau_mem=10e-3, tau_syn=5e-3))
lab = Experiment(net, duration=60e-3, substrate=OnChip(Twin(7), rows_per_input=5), rule=EventProp())
opt = torch.optim.Adam(net.parameters(), 5e-3)
train, test = YinYang("train", size=200 if quick else 5000), YinYang("test", size=100 if quick else 1000)

for epoch in range(1 if quick else 60):
    for drive, label in loader(train, 32, shuffle=True):
        record = lab(drive)
        loss = first_spike_cross_entropy(record.spikes["output"], label)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        answer = first_spike_class(lab(test.events).spikes["output"])
    print(f"epoch {epoch}: {100 * (answer == test.labels).double().mean():.1f} % right")
print(record)  # 60 ms (chip 60 us), 8 samples: hidden ... spikes/sample, ... weights clipped, 0 events dropped
