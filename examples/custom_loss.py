"""A loss of my own: two outputs 5 ms apart, silent ones made to spike, at most 20 hidden spikes."""

import os

import torch

from spikeloop import LIF, EventProp, Experiment, feedforward
from spikeloop.data import YinYang

quick = "QUICK" in os.environ  # a smoke test
torch.manual_seed(0)
net = feedforward([5, 60, 2], LIF(tau_mem=20e-3, tau_syn=5e-3))
lab = Experiment(net, duration=60e-3, rule=EventProp())
opt = torch.optim.Adam(net.parameters(), 5e-3)
drive = YinYang("train", size=100).events

for step in range(3 if quick else 601):
    record = lab(drive)
    t = record.spikes["output"].first(fill=record.duration)  # (B, size); filled entries have no gradient
    gap = (t[:, 1] - t[:, 0] - 5e-3).square().mean() / 1e-6  # ms^2
    missing = (1 - record.count["output"]).relu().sum(1).mean()  # silent neurons get their gradient here
    budget = (record.count["hidden"].sum(1) - 20).relu().mean()
    opt.zero_grad()
    (gap + 300 * missing + 4 * budget).backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step}: {gap.detach().sqrt():.1f} ms off, {record}")
