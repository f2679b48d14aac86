"""The BrainScaleS-2 tutorial on Yin-Yang in its own numbers: hardware time, CADC steps, a readout that does not spike.

Potentials of the hidden layer are CADC steps, times are those of the chip (speedup=1). Software weight 1 is about 66
codes: it adds as much current as holds the membrane a threshold's distance (70 steps) above the leak.
"""

import os

import torch

from spikeloop import LI, LIF, Experiment, Network, Observe, OnChip, Population, Projection, SuperSpike, Twin
from spikeloop.data import YinYang, loader
from spikeloop.loss import max_over_time, max_over_time_cross_entropy

quick = "QUICK" in os.environ  # two epochs: about 78 % right
torch.manual_seed(0)
TAU, LEAK, THRESHOLD = 6e-6, 80.0, 150.0  # the tutorial's calibration; its default one has a threshold of 125
UNIT = THRESHOLD - LEAK  # CADC steps in one unit of its software model
ROWS = 5  # input_repetitions: each input takes five rows, which are one weight of five times the range

hidden = LIF(tau_mem=TAU, tau_syn=TAU, leak=LEAK, reset=LEAK, threshold=THRESHOLD, refractory=1e-6)
first = torch.normal(0.001, 0.25, (ROWS, 5, 120)).sum(0)
second = torch.normal(0.0, 0.1, (120, 3))
net = Network(
    {"input": Population(5), "hidden": Population(120, hidden), "output": Population(3, LI(TAU, TAU))},
    [Projection("input", "hidden", UNIT * first), Projection("hidden", "output", second)],  # a readout counts in UNITs
)
place, rule = OnChip(Twin(7), speedup=1.0, rows_per_input=ROWS), SuperSpike(dt=2e-6, beta=50.0)
lab = Experiment(net, duration=60e-6, substrate=place, rule=rule, observe=Observe(peak={"output"}))
groups = [  # a step of Adam does not know units; the tutorial's five weights of an input move together
    {"params": net.projection("input", "hidden").parameters(), "lr": 2e-3 * ROWS * UNIT},
    {"params": net.projection("hidden", "output").parameters(), "lr": 2e-3},
]
opt = torch.optim.Adam(groups)
schedule = torch.optim.lr_scheduler.StepLR(opt, 5, 0.9)
times = {"early": 2e-6, "late": 40e-6, "bias": 18e-6}
train, test = (YinYang(s, size=n, **times) for s, n in (("train", 5025), ("test", 1050)))

for epoch in range(2 if quick else 40):
    for drive, label in loader(train, 75, shuffle=True):
        record = lab(drive)
        score = max_over_time(record.peak["output"])
        loss = max_over_time_cross_entropy(record.peak["output"], label) + 4e-4 * score.square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    schedule.step()
    with torch.no_grad():
        right = max_over_time(lab(test.events).peak["output"]).argmax(1) == test.labels
    print(f"epoch {epoch}: {100 * right.double().mean():.1f} % right, {record}")
