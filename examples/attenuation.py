"""A synaptic potential on its way along a chain of compartments, and what cable theory says about a steady one."""

from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from spikeloop import Compartment, Compartments, Events, Network, Observe, Population, Projection, Steps, run

COUPLINGS = torch.tensor([2e-3, 5e-3, 10e-3, 20e-3]).double()  # s, one chain of five compartments for each
TAU_MEM, LENGTH = 10e-3, 5
names = [f"part{k}" for k in range(LENGTH)]
chain = Compartments(
    {name: Compartment(TAU_MEM, tau_syn=2e-3) for name in names},
    dict.fromkeys(pairwise(names), COUPLINGS),
)
net = Network(
    {"input": Population(1), "chain": Population(len(COUPLINGS), chain)},
    [Projection("input", "chain", torch.ones(1, len(COUPLINGS)), compartment=names[0])],
).requires_grad_(False)
places = [f"chain.{name}" for name in names]
everywhere = Observe(membrane=dict.fromkeys(places, 0.1e-3))

# One spike into the first compartment: the peaks decay with the distance, exponentially in the middle of a long cable.
epsp = run(net, Events.from_lists([[5e-3]], [[0]], size=1), 80e-3, observe=everywhere)
trace = torch.stack([epsp.membrane[place].value[0] for place in places])  # (compartment, time, chain)
peak = trace.amax(1)
where = torch.arange(LENGTH).double() - (LENGTH - 1) / 2
slope = (where[:, None] * peak.log()).sum(0) / (where**2).sum()
print("length constants of the peaks, in compartments:", (-1 / slope).tolist())

# A steady current: V is a cosh of the distance from the sealed end, with cosh(1 / length) = 1 + coupling / (2 tau_mem).
none = Events.from_lists([[]], [[]], size=1)
held = run(net, {"input": none, places[0]: Steps([0.0], torch.ones(1, len(COUPLINGS)))}, 300e-3, observe=everywhere)
steady = torch.stack([held.membrane[place].value[0, -1] for place in places])
length = 1 / torch.acosh(1 + COUPLINGS / (2 * TAU_MEM))
theory = torch.cosh((LENGTH - 0.5 - torch.arange(LENGTH).double()[:, None]) / length)
error = (steady / steady[0] - theory / theory[0]).abs().max()
print("length constants of cable theory:", length.tolist(), "largest difference of the profile:", float(error))

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for k, place in enumerate(places):
    left.plot(1e3 * epsp.membrane[place].time, trace[k, :, 1], color=plt.cm.viridis(k / LENGTH), label=place)
left.set(xlabel="Time (ms)", ylabel="Membrane", title="one EPSP, coupling 5 ms")
left.legend(frameon=False, fontsize=8)
for number, coupling in enumerate(COUPLINGS.tolist()):
    colour = plt.cm.plasma(number / len(COUPLINGS))
    right.semilogy(range(LENGTH), peak[:, number] / peak[0, number], "o", color=colour, label=f"{1e3 * coupling:g} ms")
    right.semilogy(range(LENGTH), theory[:, number] / theory[0, number], color=colour, linewidth=1)
right.set(xlabel="Compartment", ylabel="Part of the first", title="dots: peaks of EPSPs, lines: steady, theory")
right.legend(frameon=False, fontsize=8, title="coupling")
fig.savefig("attenuation.png", dpi=110)
