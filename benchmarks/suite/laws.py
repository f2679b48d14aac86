"""Workloads that differ in one number, to see how cost and memory grow with it. laws_plot.py draws them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from building import TAU, Workload
from inputs import poisson
from problem import Shape


def chip(
    events: float = 90.0, neurons: int = 256, duration: float = 30e-3, batch: int = 100, spikes: float | None = None
) -> Workload:
    """The network of W2 on random events; unless told otherwise as many of the neurons spike as there: 8 %."""
    shape = Shape((256, neurons, 10), **TAU, duration=duration, batch=batch, many=1000)
    sparse = 0.08 * neurons if spikes is None else spikes
    return Workload("", shape, poisson(events, until=duration * 2 / 3), (sparse,), samples=1000)


@dataclass(frozen=True)
class Law:
    """Workloads that differ in one number, `name` of `chip`."""

    axis: str
    name: str
    values: tuple[float, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def workloads(self) -> dict[str, Workload]:
        """By name, such as "events 100"."""
        return {f"{self.name} {x:g}": chip(**self.settings | {self.name: x}) for x in self.values}


LAWS = (
    Law("Input events per sample", "events", (10, 30, 100, 300, 1000, 3000)),
    Law("Hidden neurons", "neurons", (128, 256, 512, 1024, 2048, 4096)),
    Law("Duration at equal events (s)", "duration", (0.03, 0.1, 0.3, 1.0, 3.0)),
    Law("Samples in a batch", "batch", (1, 10, 30, 100, 300, 1000)),
    Law("Hidden spikes per sample, batch 1000", "spikes", (5, 20, 50, 100, 200, 400), {"batch": 1000}),
)
OF_LAWS = {name: workload for law in LAWS for name, workload in law.workloads().items()}
