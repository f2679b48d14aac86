"""Coincidence detection in one neuron: two dendrites with plateaus, and a soma that spikes only while both last."""

import os

import matplotlib.pyplot as plt
import torch

import spikeloop as sl
from spikeloop import Compartment, Events, Plateau, Population, Projection, plot, run

PLATEAU = Plateau(threshold=1.0, potential=2.0, duration=30e-3)
neuron = sl.Compartments(
    {
        "soma": Compartment(10e-3, 5e-3, spike=sl.Sodium(threshold=1.0, reset=0.0, refractory=2e-3)),
        "left": Compartment(10e-3, 5e-3, spike=PLATEAU),
        "right": Compartment(10e-3, 5e-3, spike=PLATEAU),
    },
    couplings={("soma", "left"): 10e-3, ("soma", "right"): 10e-3},
)
weight = torch.tensor([[6.0]])  # one input spike is enough for a plateau
net = sl.Network(
    {"a": Population(1), "b": Population(1), "cell": Population(1, neuron)},
    [Projection("a", "cell", weight, compartment="left"), Projection("b", "cell", weight, compartment="right")],
).requires_grad_(False)

LAGS = torch.arange(-50, 51, 10 if "QUICK" in os.environ else 1).double() * 1e-3  # one sample for each
FIRST, DURATION = 60e-3, 200e-3


def spikes(times: torch.Tensor) -> Events:
    """One spike in every sample; none where the time is negative."""
    return Events.from_trains([[[time] if time >= 0 else []] for time in times.tolist()])


fixed, places = torch.full_like(LAGS, FIRST), ["cell.soma", "cell.left", "cell.right"]
observe = sl.Observe(membrane=dict.fromkeys(places, 0.2e-3))
record = run(net, {"a": spikes(fixed), "b": spikes(fixed + LAGS)}, DURATION, observe=observe)
count = record.count["cell"][:, 0]
window = LAGS[count > 0]
print(f"it spikes for lags from {1e3 * float(window.min()):.0f} to {1e3 * float(window.max()):.0f} ms")
one, none = spikes(fixed[:1]), spikes(-fixed[:1])
alone = [run(net, {"a": a, "b": b}, DURATION).count["cell"] for a, b in ((one, none), (none, one))]
print("spikes with one input alone:", [int(each.sum()) for each in alone])

fig, (top, middle, bottom) = plt.subplots(3, 1, figsize=(7, 7), layout="constrained")
top.step(1e3 * LAGS, count, where="mid", color="#222222")
top.set(xlabel="Time from the left to the right input (ms)", ylabel="Spikes of the soma")
for ax, lag in ((middle, 10e-3), (bottom, 40e-3)):
    plot.traces(record, places, sample=int((LAGS - lag).abs().argmin()), ax=ax)
    ax.set_title(f"lag {1e3 * lag:.0f} ms", fontsize=9)
fig.savefig("coincidence.png", dpi=110)
