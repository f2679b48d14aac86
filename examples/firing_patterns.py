"""Firing patterns of the AdEx neuron: the numbers of Naud et al. (2008), a step of current, and what it makes of it."""

import os

import matplotlib.pyplot as plt
import torch

from spikeloop import AdEx, Network, Observe, Population, Steps, run

PATTERNS = {  # C (pF), g_L (nS), E_L, V_T, slope (mV), a (nS), tau_w (ms), b (pA), reset (mV), current (pA)
    "tonic": (200, 10, -70, -50, 2, 2, 30, 0, -58, 500),
    "adapting": (200, 12, -70, -50, 2, 2, 300, 60, -58, 500),
    "initial burst": (130, 18, -58, -50, 2, 4, 150, 120, -50, 400),
    "regular bursting": (200, 10, -58, -50, 2, 2, 120, 100, -46, 210),
    "delayed accelerating": (200, 12, -70, -50, 2, -10, 300, 0, -58, 300),
    "delayed bursting": (100, 10, -65, -50, 2, -10, 90, 30, -47, 110),
    "transient": (100, 10, -65, -50, 2, 10, 90, 100, -47, 180),
    "irregular": (100, 12, -60, -50, 2, -11, 130, 30, -48, 160),
}
BEGIN, DURATION = 20e-3, 320e-3 if "QUICK" in os.environ else 620e-3


def pattern(times: torch.Tensor) -> str:
    """What the spikes (seconds since the current began) are called."""
    gaps = times.diff()
    if not len(gaps) or times[-1] < (DURATION - BEGIN) / 2:
        return "transient"
    late, change = gaps[len(gaps) // 2 :], gaps[-1] / gaps[0]
    if late.max() > 3 * late.min():  # bursts: short gaps and long ones
        long = late[late > late.max() / 2]
        if len(long) > 1 and long.std() > 0.05 * long.mean():
            return "irregular"
        return "delayed bursting" if times[0] > 10 * gaps[0] else "regular bursting"
    names = {"initial burst": change > 10, "adapting": change > 2, "delayed accelerating": change < 0.8}
    return next((name for name, holds in names.items() if holds), "tonic")


capacitance, leakage, leak, knee, slope, a, tau_w, b, reset, current = torch.tensor(list(PATTERNS.values())).double().T
neuron = AdEx(
    tau_mem=1e-3 * capacitance / leakage, tau_syn=5e-3, threshold=0.0, leak=leak, reset=reset, slope_factor=slope,
    exponential_threshold=knee, tau_adaptation=1e-3 * tau_w, a=a / leakage, b=b / leakage,
)  # fmt: skip
net = Network({"cells": Population(len(PATTERNS), neuron)}, [])  # no input: driven by currents alone
steps = Steps([BEGIN], (current / leakage)[None])  # mV
record = run(net, {"cells": steps}, DURATION, observe=Observe(membrane={"cells": 0.1e-3}))

trains = record.spikes["cells"]
found = [pattern(trains.time[trains.unit == unit] - BEGIN) for unit in range(len(PATTERNS))]
fig, axes = plt.subplots(4, 2, figsize=(9, 7), sharex=True, sharey=True, layout="constrained")
for unit, (name, ax) in enumerate(zip(PATTERNS, axes.flat, strict=True)):
    samples = record.membrane["cells"]
    ax.plot(1e3 * samples.time, samples.value[0, :, unit], color="#222222", linewidth=0.8)
    ax.vlines(1e3 * trains.time[trains.unit == unit], -45.0, 0.0, color="#222222", linewidth=0.8)
    ax.set_title(f"{name} (found: {found[unit]})", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
fig.supxlabel("Time (ms)")
fig.supylabel("Membrane (mV)")
fig.savefig("firing_patterns.png", dpi=110)
