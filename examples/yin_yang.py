"""Learn the Yin-Yang task with exact gradients of spike times; the network's answer is the output that spikes first."""

import os

import torch

from spikeloop import LIF, EventProp, Experiment, Ideal, feedforward
from spikeloop.data import YinYang, loader
from spikeloop.loss import first_spike_class, first_spike_cross_entropy

quick = "QUICK" in os.environ  # a smoke test
torch.manual_seed(0)
net = feedforward([5, 120, 3], LIF(tau_mem=20e-3, tau_syn=5e-3))
lab = Experiment(net, duration=60e-3, substrate=Ideal(), rule=EventProp())
opt = torch.optim.Adam(net.parameters(), 5e-3)
train, test = YinYang("train", size=200 if quick else 5000), YinYang("test")

for epoch in range(1 if quick else 20):
    for drive, label in loader(train, 32, shuffle=True):
        record = lab(drive)
        loss = first_spike_cross_entropy(record.spikes["output"], label)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        record = lab(test.events)
    right = (first_spike_class(record.spikes["output"]) == test.labels).double().mean()
    print(f"epoch {epoch}: {100 * right:.1f} % right")
print(record)
