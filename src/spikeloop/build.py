"""The common networks: layers one after the other, with or without recurrence inside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from spikeloop.errors import InvalidNetwork
from spikeloop.initial import Initialiser, Normal
from spikeloop.network import Network
from spikeloop.neuron import LI, Neuron
from spikeloop.population import Population
from spikeloop.projection import Projection

Weight = Tensor | Initialiser
"""What a projection's weight may be given as."""


def expected_amplitude(fan_in: int, target: type[Neuron]) -> Normal:
    """The default weights from ``fan_in`` sources: amplitudes in units of the potential (threshold 1, leak 0).

    Of many sources few are active: where ``k = fan_in ** 0.75`` of them (5: 3, 784: 148) spike once, the amplitudes add
    up to ``1 +- 0.4``: ``Normal(1 / k, 0.4 / sqrt(k))``. Between a fifth and two thirds of the neurons of 5-120-3 and
    784-350-350-10 networks then spike on Yin-Yang and MNIST, at tau_mem 10 or 20 ms and tau_syn 5 ms (measured).
    Readouts that never spike get ``Normal(0, 1) / sqrt(fan_in)``.
    """
    active = fan_in**0.75
    return Normal(0.0, 1.0 / math.sqrt(fan_in)) if target is LI else Normal(1.0 / active, 0.4 / math.sqrt(active))


def feedforward(
    sizes: Sequence[int],
    neuron: Neuron | Sequence[Neuron],
    readout: LI | None = None,
    weight: Weight | Sequence[Weight] | None = None,
    dropout: float | Sequence[float] = 0.0,
) -> Network:
    """Layers of ``sizes``, each projecting to the next: input, hidden (or hidden1, hidden2, ...), output.

    ``neuron`` is one for all layers or one per layer after the input; with ``readout=LI(...)`` the output does not
    spike and ``neuron`` covers the hidden layers. ``weight`` is one initialiser for all projections or one (or a
    tensor) per projection; by default `expected_amplitude`. ``dropout`` is one probability for all layers but the
    output, or one per layer, the input first.
    """
    layers = _layers(sizes, neuron, readout, dropout)
    return Network(layers, _chain(layers, weight))


def recurrent(
    sizes: Sequence[int],
    neuron: Neuron | Sequence[Neuron],
    readout: LI | None = None,
    weight: Weight | Sequence[Weight] | None = None,
    recurrent_weight: Weight | Sequence[Weight] | None = None,
    dropout: float | Sequence[float] = 0.0,
) -> Network:
    """As `feedforward`, and every hidden layer projects to itself with ``recurrent_weight``.

    That is one initialiser for all, or one per hidden layer; by default ``Normal(0, 0.2) / sqrt(size)``.
    """
    layers = _layers(sizes, neuron, readout, dropout)
    hidden = list(layers)[1:-1]
    given = _each(recurrent_weight, len(hidden), "recurrent weights")
    loops = [
        Projection(name, name, Normal(0.0, 0.2 / math.sqrt(layers[name].size)) if chosen is None else chosen)
        for name, chosen in zip(hidden, given, strict=True)
    ]
    return Network(layers, [*_chain(layers, weight), *loops])


def _layers(
    sizes: Sequence[int], neuron: Neuron | Sequence[Neuron], readout: LI | None, dropout: float | Sequence[float]
) -> dict[str, Population]:
    if len(sizes) < 2:
        raise InvalidNetwork(f"sizes are {list(sizes)}", expected="at least an input and an output")
    neurons = _neurons(neuron, len(sizes) - 1, readout)
    every = isinstance(dropout, Sequence)
    probabilities = list(dropout) if every else [dropout] * (len(sizes) - 1) + [0.0]
    if len(probabilities) != len(sizes):
        raise InvalidNetwork(f"{len(probabilities)} dropout probabilities", expected=f"one, or {len(sizes)}")
    hidden = ["hidden"] if len(sizes) == 3 else [f"hidden{i}" for i in range(1, len(sizes) - 1)]
    names = ["input", *hidden, "output"]
    kinds: list[Neuron | None] = [None, *neurons]
    return {
        name: Population(size, kind, drop)
        for name, size, kind, drop in zip(names, sizes, kinds, probabilities, strict=True)
    }


def _neurons(neuron: Neuron | Sequence[Neuron], layers: int, readout: LI | None) -> list[Neuron]:
    spiking = layers - (readout is not None)
    neurons = list(neuron) if isinstance(neuron, Sequence) else [neuron] * spiking
    if len(neurons) != spiking:
        raise InvalidNetwork(f"{len(neurons)} neurons for {spiking} layers", expected="one for all, or one per layer")
    return neurons if readout is None else [*neurons, readout]


def _chain(layers: dict[str, Population], weight: Weight | Sequence[Weight] | None) -> list[Projection]:
    names = list(layers)
    given = _each(weight, len(names) - 1, "weights")
    projections: list[Projection] = []
    for source, target, chosen in zip(names, names[1:], given, strict=False):
        kind = layers[target].kind
        assert kind is not None
        default = expected_amplitude(layers[source].size, kind)
        projections.append(Projection(source, target, default if chosen is None else chosen))
    return projections


def _each(given: Weight | Sequence[Weight] | None, number: int, what: str) -> list[Weight | None]:
    if given is None or not isinstance(given, Sequence):
        return [given] * number
    if len(given) != number:
        raise InvalidNetwork(f"{len(given)} {what}", expected=f"one for all, or {number}")
    return list(given)
