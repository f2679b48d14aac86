"""Freeze the first layer's weights and learn the hidden neurons' membrane time constants instead."""

import os

import torch
from torch import nn

from spikeloop import LIF, EventProp, feedforward
from spikeloop.data import YinYang
from spikeloop.training import evaluate, fit

quick = "QUICK" in os.environ  # a smoke test
torch.manual_seed(0)
slow = LIF(tau_mem=nn.Parameter(torch.full((120,), 20e-3)), tau_syn=5e-3)  # one neuron model per layer
net = feedforward([5, 120, 3], [slow, LIF(tau_mem=20e-3, tau_syn=5e-3)])
net.projection("input", "hidden").weight.requires_grad_(False)

train, test = YinYang("train", size=200 if quick else 5000), YinYang("test")
fit(net, train, rule=EventProp(), epochs=1 if quick else 10)
tau = 1e3 * net.populations["hidden"].tau_mem.detach()
print(f"tau_mem from {tau.min():.1f} to {tau.max():.1f} ms, {100 * evaluate(net, test):.1f} % right")
