"""A back-propagating action potential and input to the tuft, each too weak, make a calcium spike and a burst together.

After Larkum, Zhu and Sakmann (1999), A new cellular mechanism for coupling inputs arriving at different layers.
"""

import os

import matplotlib.pyplot as plt
import torch

from spikeloop import Compartment, Compartments, Events, Network, Observe, Plateau, Population, Projection, plot, run

action_potential = Plateau(threshold=1.0, potential=4.0, duration=1e-3)  # this is what goes back
calcium = Plateau(threshold=1.0, potential=4.0, duration=30e-3)
neuron = Compartments(
    {
        "soma": Compartment(15e-3, 5e-3, spike=action_potential, tau_adaptation=3e-3, b=40.0),  # low afterwards
        "trunk": Compartment(15e-3, 5e-3),
        "tuft": Compartment(15e-3, 8e-3, spike=calcium),
    },
    couplings={("soma", "trunk"): 6e-3, ("trunk", "tuft"): 6e-3},
)
net = Network(
    {"soma_input": Population(1), "tuft_input": Population(1), "cell": Population(1, neuron)},
    [
        Projection("soma_input", "cell", torch.tensor([[9.5]]), compartment="soma"),
        Projection("tuft_input", "cell", torch.tensor([[5.2]]), compartment="tuft"),
    ],
).requires_grad_(False)

CASES = {"soma": (20e-3, None), "tuft": (None, 22e-3), "soma, tuft 2 ms later": (20e-3, 22e-3)}
LAGS = range(-30, 41, 10 if "QUICK" in os.environ else 2)  # ms
samples = [*CASES.values(), *((50e-3, 50e-3 + 1e-3 * lag) for lag in LAGS)]
drive = {
    name: Events.from_trains([[[] if pair[k] is None else [pair[k]]] for pair in samples])
    for k, name in enumerate(("soma_input", "tuft_input"))
}
places = ["cell.soma", "cell.trunk", "cell.tuft"]
record = run(net, drive, 150e-3, observe=Observe(membrane=dict.fromkeys(places, 0.1e-3)))
count = record.count["cell"][:, 0]
for name, spikes in zip(CASES, count, strict=False):
    print(f"{name}: {int(spikes)} spikes")

fig, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for sample, (ax, name) in enumerate(zip(axes.flat, CASES, strict=False)):
    plot.traces(record, places, sample=sample, ax=ax)
    ax.set(title=f"input to the {name}: {int(count[sample])} spikes", xlim=(0.0, 100.0), ylim=(-1.0, 4.6))
axes[1, 1].step(list(LAGS), count[len(CASES) :], where="mid", color="#222222")
axes[1, 1].set(xlabel="Time from the input to the soma to that to the tuft (ms)", ylabel="Spikes")
fig.savefig("calcium_burst.png", dpi=110)
