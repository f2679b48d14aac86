"""Train into a run folder. Press Ctrl-C, or kill it, and start it again: it ends as if nothing had happened."""

import os

import torch

from spikeloop import LIF, EventProp, Ideal, feedforward
from spikeloop.data import YinYang
from spikeloop.training import evaluate, fit

quick = "QUICK" in os.environ  # a smoke test
torch.manual_seed(0)
net = feedforward([5, 120, 3], LIF(tau_mem=20e-3, tau_syn=5e-3))
data, test = YinYang("train", size=200 if quick else 5000), YinYang("test")
place = Ideal()

epochs = 1 if quick else 100
state = fit(net, data, substrate=place, rule=EventProp(), epochs=epochs, folder="runs/yy7", resume=True)
print(state.history[-1])
print(f"{100 * evaluate(net, test, place):.1f} % of the test points right")
