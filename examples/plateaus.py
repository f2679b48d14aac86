"""What a dendrite does to its input: passes it on, or answers all or nothing with an NMDA or a calcium plateau."""

import os

import matplotlib.pyplot as plt
import torch

from spikeloop import Compartment, Compartments, Events, Network, Observe, Plateau, Population, Projection, plot, run

MECHANISMS = {
    "passive": None,
    "NMDA": Plateau(threshold=0.8, potential=1.6, duration=25e-3),
    "calcium": Plateau(threshold=1.2, potential=2.4, duration=60e-3),
}


def neuron(mechanism: Plateau | None) -> Compartments:
    """A soma that does not spike, and a dendrite with this mechanism."""
    parts = {"soma": Compartment(15e-3, 5e-3), "dendrite": Compartment(15e-3, 5e-3, spike=mechanism)}
    return Compartments(parts, {("soma", "dendrite"): 10e-3})


INPUTS = torch.arange(1, 13, 2 if "QUICK" in os.environ else 1)  # so many synchronous ones, a sample for each
net = Network(
    {"input": Population(12), **{name: Population(1, neuron(how)) for name, how in MECHANISMS.items()}},
    [Projection("input", name, torch.full((12, 1), 1.0), compartment="dendrite") for name in MECHANISMS],
).requires_grad_(False)
drive = Events.from_lists([[20e-3] * n for n in INPUTS.tolist()], [list(range(n)) for n in INPUTS.tolist()], size=12)
places = [f"{name}.{part}" for name in MECHANISMS for part in ("dendrite", "soma")]
record = run(net, drive, 150e-3, observe=Observe(membrane=dict.fromkeys(places, 0.2e-3)))

dendrite = {name: record.membrane[f"{name}.dendrite"].value[:, :, 0] for name in MECHANISMS}
peak = {name: record.membrane[f"{name}.soma"].value[:, :, 0].amax(1) for name in MECHANISMS}
fewest, lasts = {}, {}
for name, mechanism in MECHANISMS.items():
    answered = INPUTS[dendrite[name].amax(1) >= mechanism.potential] if mechanism else []
    fewest[name] = int(answered[0]) if len(answered) else None
    lasts[name] = 0.2 * int((dendrite[name][-1] > 0.7).sum())
    how = f"a plateau from {fewest[name]} inputs on" if fewest[name] else "no plateau"
    print(f"{name}: {how}; with {INPUTS[-1]} inputs it is above 0.7 for {lasts[name]:.0f} ms")

fig, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for ax, name in zip(axes.flat, MECHANISMS, strict=False):
    plot.traces(record, [f"{name}.dendrite", f"{name}.soma"], sample=len(INPUTS) - 1, ax=ax)
    ax.set(title=f"{name}: {int(INPUTS[-1])} inputs", ylim=(-0.1, 2.6))
for name in MECHANISMS:
    axes[1, 1].plot(INPUTS, peak[name], "o-", label=name, markersize=4)
axes[1, 1].set(xlabel="Synchronous inputs to the dendrite", ylabel="Peak at the soma")
axes[1, 1].legend(frameon=False)
fig.savefig("plateaus.png", dpi=110)
