"""Random networks of every family."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from problems import MS, Array, Group, Link, Problem
from reference import FIELDS


def population(rng: np.random.Generator, size: int, kind: str, ratio: str, tonic: float, alike: bool) -> Group:
    """Neurons that all differ, or (`alike`) are all like the first.

    `ratio` of tau_mem to tau_syn: "wide" 0.2 to 5, "near" within 1e-6 of 1, "equal", or "whole", 2 to 4. A fraction
    `tonic` of them has its leak above the threshold.
    """
    tau_mem = rng.uniform(7, 14, size) * MS
    ratios = {
        "wide": np.exp(rng.uniform(math.log(0.2), math.log(5.0), size)),
        "near": 1 + rng.uniform(-1e-6, 1e-6, size),
        "equal": np.ones(size),
        "whole": 2.0 + (np.arange(size) + int(1e6 * tau_mem[0])) % 3,
    }
    threshold = rng.uniform(0.8, 1.2, size)
    above, below = threshold * rng.uniform(1.1, 1.4, size), rng.uniform(-0.1, 0.1, size)
    leak = np.where(rng.uniform(size=size) < tonic, above, below)
    values = {
        "tau_mem": tau_mem,
        "tau_syn": tau_mem / ratios[ratio],
        "threshold": threshold,
        "leak": leak,
        "reset": rng.uniform(-0.4, 0.1, size),
        "refractory": rng.uniform(0.3, 3, size) * MS,
    }
    return Group(size, kind, {name: values[name][0] if alike else values[name] for name in FIELDS[kind]})


def delays(rng: np.random.Generator, kind: str, sources: int, synapses: tuple[int, ...]) -> Array:
    shape = {"none": (), "scalar": (), "source": (sources, 1), "synapse": synapses}[kind]
    return np.zeros(()) if kind == "none" else rng.uniform(0.3, 4, shape) * MS


@dataclass
class Draw:
    """What a family is drawn with."""

    rng: np.random.Generator
    size: int = 6
    inputs: int = 5
    ratio: str = "wide"
    tonic: float = 0.0
    alike: bool = False
    delay: str = "synapse"
    batch: int = 2
    duration: float = 60 * MS
    spikes: float = 6.0
    """events per input line and sample; the weights are then scaled until neurons spike about as often"""

    def lif(self, size: int | None = None) -> Group:
        return population(self.rng, size or self.size, "lif", self.ratio, self.tonic, self.alike)

    def li(self, size: int = 2) -> Group:
        return population(self.rng, size, "li", self.ratio, 0.0, self.alike)

    def link(self, source: str, target: str, sources: int, targets: int, sign: float = 1.0) -> Link:
        weight = sign * self.rng.normal(1.0, 0.7, (sources, targets))
        return Link(source, target, weight, delays(self.rng, self.delay, sources, weight.shape))

    def finish(self, groups: dict[str, Group], links: list[Link]) -> Problem:
        drives = []
        for _ in range(self.batch):
            drive = {}
            for name, group in groups.items():
                if group.kind == "input":
                    count = self.rng.poisson(self.spikes * group.size)
                    times = np.sort(self.rng.uniform(0, 0.8 * self.duration, count))
                    drive[name] = (times, self.rng.integers(0, group.size, count))
            drives.append(drive)
        return settle(Problem(groups, links, drives, self.duration), self.spikes)


def settle(problem: Problem, wanted: float, rounds: int = 6) -> Problem:
    """Scale the weights until the neurons of every population spike `wanted` times on average, within a factor 1.6."""
    rate = wanted / problem.duration
    scale = {}
    for name, group in problem.groups.items():
        incoming = [link for link in problem.links if link.target == name]
        arriving = sum(np.size(link.weight) if link.image is None else 9 * group.size for link in incoming)
        if group.kind != "input":  # the mean current that makes a neuron fire: about 1.4
            scale[name] = 1.4 / (rate * arriving / group.size * float(np.mean(group.fields["tau_syn"])))
    for _ in range(rounds):
        links = [replace(k, weight=k.weight * scale[k.target]) for k in problem.links]
        settled = replace(problem, links=links)
        run = settled.reference()
        done = True
        for name, group in problem.groups.items():
            if group.kind == "lif":
                mean = np.mean([len(train) for train in run.trains(name)])
                off = (mean + 0.2) / (wanted + 0.2)
                if not 1 / 1.6 < off < 1.6:
                    scale[name] *= min(max(off**-0.6, 0.5), 2.0)
                    done = False
        if done:
            break
    return settled


def one_layer(draw: Draw) -> Problem:
    return draw.finish(
        {"input": Group(draw.inputs), "hidden": draw.lif()}, [draw.link("input", "hidden", draw.inputs, draw.size)]
    )


def two_layers(draw: Draw) -> Problem:
    n = draw.size
    links = [draw.link("input", "hidden1", draw.inputs, n), draw.link("hidden1", "hidden2", n, n)]
    return draw.finish({"input": Group(draw.inputs), "hidden1": draw.lif(), "hidden2": draw.lif()}, links)


def recurrent(draw: Draw) -> Problem:
    n = draw.size
    links = [draw.link("input", "hidden", draw.inputs, n), draw.link("hidden", "hidden", n, n, -0.3)]
    return draw.finish({"input": Group(draw.inputs), "hidden": draw.lif()}, links)


def loop(draw: Draw) -> Problem:
    """Two populations in a loop, between them excitation one way and inhibition the other."""
    n, m = draw.size, max(2, draw.size // 2)
    links = [draw.link("input", "a", draw.inputs, n), draw.link("a", "b", n, m), draw.link("b", "a", m, n, -0.5)]
    return draw.finish({"input": Group(draw.inputs), "a": draw.lif(), "b": draw.lif(m)}, links)


def conv(draw: Draw) -> Problem:
    """5 x 5 pixels, two 3 x 3 kernels with stride 2, and a dense layer; delays per synapse only in the latter."""
    return convolved(draw, (1, 5, 5), 2, 0)


def padded(draw: Draw) -> Problem:
    """The same of 2 x 4 x 3 pixels with a border of one: every place but one has synapses that are cut off."""
    return convolved(draw, (2, 4, 3), 2, 1)


def convolved(draw: Draw, image: tuple[int, int, int], stride: int, padding: int) -> Problem:
    """Two maps of 2 x 2 places."""
    kernel, pixels = draw.rng.normal(1.0, 0.7, (2, image[0], 3, 3)), math.prod(image)
    kind = "source" if draw.delay == "synapse" else draw.delay
    first = Link("input", "maps", kernel, delays(draw.rng, kind, pixels, ()), None, image, stride, padding)
    draw = replace(draw, spikes=draw.spikes / 2)
    groups = {"input": Group(pixels), "maps": draw.lif(8), "output": draw.lif(3)}
    return draw.finish(groups, [first, draw.link("maps", "output", 8, 3)])


def sparse(draw: Draw) -> Problem:
    """Half of all pairs, some of them twice, in no order; the second layer is sparse too."""
    n, links = draw.size, []
    for source, target, sources in (("input", "hidden", draw.inputs), ("hidden", "output", n)):
        count = max(sources * n // 2, 2)
        pairs = (draw.rng.integers(0, sources, count), draw.rng.integers(0, n, count))
        weight = draw.rng.normal(1.0, 0.7, count)
        links.append(Link(source, target, weight, delays(draw.rng, draw.delay, sources, (count,)), pairs))
    return draw.finish({"input": Group(draw.inputs), "hidden": draw.lif(), "output": draw.lif()}, links)


def skip(draw: Draw) -> Problem:
    """Two inputs, one of them straight to the second hidden layer, which the first input reaches too."""
    n = draw.size
    links = [
        draw.link("input", "hidden1", draw.inputs, n),
        draw.link("hidden1", "hidden2", n, n),
        draw.link("input", "hidden2", draw.inputs, n),
        draw.link("extra", "hidden2", 2, n),
    ]
    groups = {"input": Group(draw.inputs), "extra": Group(2), "hidden1": draw.lif(), "hidden2": draw.lif()}
    return draw.finish(groups, links)


def readout(draw: Draw) -> Problem:
    links = [draw.link("input", "hidden", draw.inputs, draw.size), draw.link("hidden", "readout", draw.size, 2)]
    return draw.finish({"input": Group(draw.inputs), "hidden": draw.lif(), "readout": draw.li()}, links)


def everything(draw: Draw) -> Problem:
    """Two inputs, two populations in a loop, one of them with itself too, a skip connection and an LI readout."""
    n, m = draw.size, max(2, draw.size // 2)
    links = [
        draw.link("input", "a", draw.inputs, n),
        draw.link("extra", "b", 2, m),
        draw.link("a", "a", n, n, -0.2),
        draw.link("a", "b", n, m),
        draw.link("b", "a", m, n, -0.4),
        draw.link("b", "readout", m, 2),
        draw.link("input", "readout", draw.inputs, 2),
    ]
    groups = {
        "input": Group(draw.inputs), "extra": Group(2), "a": draw.lif(), "b": draw.lif(m), "readout": draw.li(),
    }  # fmt: skip
    return draw.finish(groups, links)


FAMILIES: dict[str, Callable[[Draw], Problem]] = {
    family.__name__: family
    for family in (one_layer, two_layers, recurrent, loop, conv, padded, sparse, skip, readout, everything)
}
