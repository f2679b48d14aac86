r"""Multiplicative spike-timing-dependent plasticity comes to rest where theory says it does.

Sources and targets spike like independent Poisson processes of rates a and b. At a spike of the target, the latest
arrival was s ago with density a exp(-a s), and no other spike came in between with probability exp(-b s); it adds
exp(-s / tau). So causal correlation grows by eta+ a b / (a + b + 1 / tau+) per second, anticausal likewise, and
lambda+ (1 - w) c+ = lambda- w c- holds in the mean at w = g+ / (g+ + g-), g = lambda eta / (a + b + 1 / tau).
"""

import os

import matplotlib.pyplot as plt
import torch

from spikeloop import LIF, Events, Network, Observe, Population, Projection, plot, run
from spikeloop.plasticity import Correlation, MultiplicativeSTDP, Plasticity

torch.manual_seed(0)
duration, size = (40.0, 10) if "QUICK" in os.environ else (200.0, 40)
sensor, rule = Correlation(tau=(10e-3, 20e-3), amplitude=(1 / 128, 1 / 128)), MultiplicativeSTDP(4.0, 3.0)
tiny = 1e-6  # of the threshold: what the synapses transmit shall not make the targets spike
start = tiny * torch.rand(size, size)
net = Network(
    {"input": Population(size), "teacher": Population(size), "output": Population(size, LIF(1e-3, 0.2e-3))},
    [
        Projection("input", "output", start, plasticity=Plasticity(rule, w_max=tiny, period=0.1, sensor=sensor)),
        Projection.sparse("teacher", "output", torch.arange(size), torch.arange(size), torch.full((size,), 9.0)),
    ],
)


def poisson(rate: float) -> Events:
    """Independent trains."""
    return Events.from_trains(
        [[duration * torch.rand(int(torch.poisson(torch.tensor(rate * duration)))) for _ in range(size)]]
    )


record = run(
    net, {"input": poisson(20.0), "teacher": poisson(10.0)}, duration, observe=Observe(history={"input_to_output"})
)

a, b = (float(len(record.spikes[name].time)) / size / duration for name in ("input", "output"))
up, down = (
    rate * eta / (a + b + 1 / tau)
    for rate, eta, tau in zip((rule.causal, rule.anticausal), sensor.amplitudes, sensor.taus, strict=True)
)
theory = up / (up + down)
history = record.history["input_to_output"].value[:, 0] / tiny
late = history[len(history) // 2 :]
print(f"rates {a:.1f} and {b:.1f} / s, mean weight {late.mean():.4f}, theory {theory:.4f}")
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
plot.over_updates(history.flatten(1), "Weight", theory, ax=left)
plot.weight_distribution(history[-1], theory, ax=right)
fig.savefig("stdp_fixed_point.png", dpi=150)
