"""Networks as plain numpy, among them some with known answers; random ones are in `families.py`.

A `Problem` is a network, a batch of drives and a duration; it turns into a spikeloop network (`network`, `events`) and
into what the naive twins in `reference.py` take (`layout`, `quantities`, `drive`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reference import Layout, Run, Wiring, simulate
from torch import nn

from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.neuron import LI, LIF
from spikeloop.population import Population
from spikeloop.projection import Projection

Array = NDArray[Any]
MS = 1e-3


@dataclass(frozen=True)
class Group:
    """A population: its kind ("input", "lif", "li") and its fields, numbers or (size,)."""

    size: int
    kind: str = "input"
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """A projection: dense, or sparse (`pairs`: the units before and after), or a convolution over `image` (C, H, W)."""

    source: str
    target: str
    weight: Array
    delay: Array = field(default_factory=lambda: np.zeros(()))
    pairs: tuple[Array, Array] | None = None
    image: tuple[int, int, int] | None = None
    stride: int = 1
    padding: int = 0

    def wiring(self, sources: int, targets: int) -> Wiring:
        """Synapse by synapse, by the plainest loops."""
        if self.image is not None:
            rows = convolution(self.weight.shape, self.image, self.stride, self.padding)
        elif self.pairs is not None:
            rows = [(int(n), int(m), k) for k, (n, m) in enumerate(zip(*self.pairs, strict=True))]
        else:
            rows = [(n, m, n * targets + m) for n in range(sources) for m in range(targets)]
        pre, post, index = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        by_source = self.delay.shape == (sources, 1)
        slot = np.zeros_like(pre) if self.delay.ndim == 0 else pre if by_source else index
        return Wiring(self.source, self.target, pre, post, index, slot)


def convolution(
    kernel: tuple[int, ...], image: tuple[int, int, int], stride: int, padding: int
) -> list[tuple[int, int, int]]:
    """(unit before, unit after, kernel element) of every synapse; from the padding none come."""
    channels_out, channels, kernel_height, kernel_width = kernel
    _, height, width = image
    height_out = (height + 2 * padding - kernel_height) // stride + 1
    width_out = (width + 2 * padding - kernel_width) // stride + 1
    rows = []
    for o, y, x in np.ndindex(channels_out, height_out, width_out):
        for c, i, j in np.ndindex(channels, kernel_height, kernel_width):
            row, column = y * stride + i - padding, x * stride + j - padding
            if not (0 <= row < height and 0 <= column < width):
                continue
            element = ((o * channels + c) * kernel_height + i) * kernel_width + j
            rows.append(((c * height + row) * width + column, (o * height_out + y) * width_out + x, element))
    return rows


@dataclass(frozen=True)
class Problem:
    """Populations and projections by name; `drives` holds {input: (times, units)} per sample."""

    groups: dict[str, Group]
    links: list[Link]
    drives: list[dict[str, tuple[Array, Array]]]
    duration: float

    @property
    def names(self) -> list[str]:
        return [f"{link.source}_to_{link.target}" for link in self.links]

    def layout(self) -> Layout:
        size = {name: group.size for name, group in self.groups.items()}
        wiring = {n: k.wiring(size[k.source], size[k.target]) for n, k in zip(self.names, self.links, strict=True)}
        return Layout(size, {name: group.kind for name, group in self.groups.items()}, wiring)

    def quantities(self) -> dict[tuple[str, str], Array]:
        found = {(name, f): np.asarray(v) for name, group in self.groups.items() for f, v in group.fields.items()}
        for name, link in zip(self.names, self.links, strict=True):
            found[name, "weight"], found[name, "delay"] = link.weight, link.delay
        return found

    def network(self, dtype: torch.dtype = torch.float64, trainable: bool = True) -> Network:
        """Everything trainable that can be (a time of zero cannot), weights in `dtype`, the rest in float64."""

        def wrap(name: str, value: Any) -> Any:
            tensor = torch.as_tensor(value, dtype=torch.float64)
            zero = name in ("delay", "refractory") and not bool((tensor > 0).all())
            return nn.Parameter(tensor) if trainable and not zero else tensor

        kinds: dict[str, Callable[..., Any]] = {"lif": LIF, "li": LI, "input": lambda: None}
        populations = {
            name: Population(group.size, kinds[group.kind](**{f: wrap(f, v) for f, v in group.fields.items()}))
            for name, group in self.groups.items()
        }
        projections = []
        for link in self.links:
            weight, delay = torch.as_tensor(link.weight, dtype=dtype), wrap("delay", link.delay)
            if link.image is not None:
                made = Projection.conv2d(link.source, link.target, weight, link.image, link.stride, link.padding, delay)
            elif link.pairs is not None:
                pre, post = (torch.as_tensor(side) for side in link.pairs)
                made = Projection.sparse(link.source, link.target, pre, post, weight, delay)
            else:
                made = Projection(link.source, link.target, weight, delay)
            projections.append(made)
        return Network(populations, projections)

    def events(self) -> dict[str, Events]:
        return {
            name: Events.from_lists([d[name][0] for d in self.drives], [d[name][1] for d in self.drives], group.size)
            for name, group in self.groups.items()
            if group.kind == "input"
        }

    def reference(self, sample: int = 0) -> Run:
        return simulate(self.layout(), self.quantities(), self.drives[sample], self.duration)

    def only(self, sample: int) -> Problem:
        return replace(self, drives=[self.drives[sample]])


def single(weight: float, tau_mem: float, tau_syn: float, duration: float, **fields: float) -> Problem:
    """One neuron that one event at 1 ms reaches."""
    values = {"tau_mem": tau_mem, "tau_syn": tau_syn, "threshold": 1.0, "leak": 0.0, "reset": 0.0, "refractory": 0.0}
    groups = {"input": Group(1), "hidden": Group(1, "lif", values | fields)}
    drive = {"input": (np.array([1 * MS]), np.array([0]))}
    return Problem(groups, [Link("input", "hidden", np.array([[weight]]))], [drive], duration)


def psp_peak(tau_mem: float, tau_syn: float) -> float:
    """The peak of V - leak after one event of weight 1: there V' = 0, so it is the current, exp(-time / tau_syn)."""
    excess = tau_mem / tau_syn - 1
    return math.exp(-(1 + excess) * (math.log1p(excess) / excess if excess else 1.0))


def period(tau_mem: float, threshold: float, leak: float, reset: float, refractory: float) -> float:
    """Between the spikes of a neuron with its leak above the threshold, without input."""
    return tau_mem * math.log((leak - reset) / (leak - threshold)) + refractory
