"""One network, five chips: what each makes of weights trained in software, and of its own training in the loop."""

import copy
import os

import torch

from spikeloop import LIF, EventProp, Ideal, OnChip, Twin, feedforward
from spikeloop.data import YinYang
from spikeloop.training import evaluate, fit

quick = "QUICK" in os.environ  # a smoke test
torch.manual_seed(0)
net = feedforward([5, 120, 3], LIF(tau_mem=10e-3, tau_syn=5e-3))
data, test = YinYang("train", size=200 if quick else 5000), YinYang("test", size=100 if quick else 1000)
fit(net, data, rule=EventProp(), epochs=1 if quick else 60)
print(f"in software {100 * evaluate(net, test, Ideal()):.1f} %")

for seed in range(1 if quick else 5):
    place = OnChip(Twin(seed), rows_per_input=5)
    mine = copy.deepcopy(net)
    fit(mine, data, substrate=place, rule=EventProp(), epochs=1 if quick else 20)
    transferred, in_the_loop = evaluate(net, test, place), evaluate(mine, test, place)
    print(f"chip {seed}: transferred {100 * transferred:.1f} %, in the loop {100 * in_the_loop:.1f} %")
