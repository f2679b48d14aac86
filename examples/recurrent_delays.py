"""A hidden layer that hears itself, each synapse after a delay of its own, which is learned."""

import os

import torch
from torch import nn

from spikeloop import LI, LIF, EventProp, Events, Network, Normal, Observe, Population, Projection, run
from spikeloop.loss import max_over_time_cross_entropy

quick = "QUICK" in os.environ  # a smoke test
torch.manual_seed(0)
net = Network(
    {"input": Population(700), "hidden": Population(128, LIF(20e-3, 5e-3)), "output": Population(20, LI(20e-3, 5e-3))},
    [
        Projection("input", "hidden", Normal(0.4, 0.2)),
        Projection("hidden", "hidden", Normal(0.0, 0.05), delay=nn.Parameter(30e-3 * torch.rand(128, 128))),
        Projection("hidden", "output", Normal(0.2, 0.3)),
    ],
)
label = torch.arange(16)
trains = 0.2 * torch.rand(16, 20, dtype=torch.float64)  # 20 random spikes for each of 16 classes
drive = Events.from_padded(trains, torch.randint(700, (16, 20)), size=700)
opt = torch.optim.Adam(net.parameters(), 5e-3)

before = net.projection("hidden", "hidden").delay.detach().clone()
for step in range(2 if quick else 60):
    record = run(net, drive, 0.25, rule=EventProp(), observe=Observe(peak={"output"}))
    loss = max_over_time_cross_entropy(record.peak["output"], label)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 10 == 0:
        print(f"step {step}: loss {loss.detach():.3f}, {record}")
moved = net.projection("hidden", "hidden").delay.detach() - before
print(f"delays moved by {1e3 * moved.abs().mean():.3f} ms on average")
