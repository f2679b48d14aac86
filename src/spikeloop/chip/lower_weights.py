"""Weights from model numbers to the codes of an array, and what they are then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeloop.chip import lower_drivers
from spikeloop.chip.configuration import COLUMNS, HALVES, ROWS, WEIGHT_MAX
from spikeloop.chip.mapping import Placement, site_key
from spikeloop.chip.scales import Scale
from spikeloop.engine.codes import Rounded, lay, rounded
from spikeloop.errors import OutOfRange
from spikeloop.network import Network
from spikeloop.projection import Projection

Float = NDArray[np.float64]

_EXACT = 1e-4  # of a code: less is float32's own rounding


@dataclass(frozen=True, eq=False)
class Lowered:
    """Weights on their way to the array.

    weight: (2, 256, 256), the array's.  codes: by projection, (S, T), signed, summed over the rows of a synapse.
    executed: what they are in model units, shaped like the projections' weights.  clipped: synapses beyond the range.
    rounded: others that lie between codes.  rounding: the rms of what that changed, over all synapses, in codes.
    """

    weight: NDArray[np.uint8]
    codes: Mapping[str, NDArray[np.int32]]
    executed: Mapping[str, Tensor]
    clipped: int
    rounded: int
    rounding: float


class Copies(Mapping[str, Tensor]):
    """Copies of tensors, each made when it is first asked for: most of a run's weights never are."""

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        self._kept, self._made = kept, dict[str, Tensor]()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._made:
            self._made[name] = self._kept[name].clone()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return repr(dict(self))


class Latest:
    """What became of the weights of a network on a chip the last time, for a while they may stay the same.

    All else that it depends on (`lower_weights`) stays the same for good.
    """

    def __init__(self) -> None:
        self._known: tuple[list[object], Lowered] | None = None

    def lowered(
        self, network: Network, placement: Placement, scales: Mapping[str, Scale], strict: bool = False
    ) -> Lowered:
        """As `lower_weights`; the array's weights cannot be written to, the others are the caller's."""
        held = [_values(projection.weight.detach()) for projection in network.projections.values()]
        known = self._known
        if known is None or known[0] != held:
            known = self._known = held, lower_weights(network, placement, scales, strict)
            known[1].weight.flags.writeable = False
        return replace(known[1], executed=Copies(known[1].executed))


def _values(weight: Tensor) -> object:
    return weight.dtype, weight.shape, weight.contiguous().view(torch.uint8).numpy().tobytes()


def lower_weights(network: Network, placement: Placement, scales: Mapping[str, Scale], strict: bool = False) -> Lowered:
    """The array's weights, and what they are in model units.

    Weights beyond the range are clipped; if ``strict`` they are an ``OutOfRange`` that says how many, and where.
    """
    flat = np.zeros(HALVES * ROWS * COLUMNS, np.uint8)
    codes, executed = dict[str, NDArray[np.int32]](), dict[str, Tensor]()
    clipped, between, squares, synapses = 0, 0, 0.0, 0
    for name, projection in network.projections.items():
        place, unit = placement.synapse[name], scales[site_key(projection.target, projection.place[0])].weight
        share = lower_drivers.share(projection, place.shape[1])
        found = rounded(_scaled(_dense(projection), share), unit, WEIGHT_MAX * len(place), _EXACT)
        if strict and found.beyond:
            raise _beyond(name, found, unit / share, len(place))
        clipped, between, squares = clipped + found.beyond, between + found.between, squares + found.squares
        synapses += synapses_of(projection)
        codes[name], executed[name] = found.code, _as_given(projection, _scaled(found.executed, 1 / share))
        lay(found.code, place, COLUMNS, flat)
    return Lowered(
        flat.reshape(HALVES, ROWS, COLUMNS), codes, executed, clipped, between, math.sqrt(squares / max(synapses, 1))
    )


def _scaled(weight: NDArray[Any], share: Float | float) -> NDArray[Any]:
    return weight if isinstance(share, float) else weight * share


def _beyond(name: str, found: Rounded, unit: Float, rows: int) -> OutOfRange:
    least, largest = (WEIGHT_MAX * rows * float(edge) for edge in (unit.min(), unit.max()))
    reach = f"{largest:.4g}" if least == largest else f"{least:.4g} to {largest:.4g}, by neuron"
    return OutOfRange(
        f"{found.beyond} of {found.code.size} weights are beyond what the chip reaches",
        where=f"projection {name}",
        expected=f"at most {reach}: {WEIGHT_MAX} steps on each of {rows} row pair{'s' if rows > 1 else ''}",
        todo="Scale the weights or the potentials down, give inputs more rows_per_input, or clip: strict=False",
    )


def synapses_of(projection: Projection) -> int:
    """How many synapses it consists of."""
    return projection.weight.numel() if projection.synapses is None else len(projection.synapses.target)


def _dense(projection: Projection) -> NDArray[Any]:
    """(S, T): the projection's weights, zero where there is no synapse."""
    given = projection.weight.detach()
    weight = given.to(torch.promote_types(given.dtype, torch.float32)).numpy()
    synapses = projection.synapses
    if synapses is None:
        return weight
    assert projection.shape is not None
    dense = np.zeros(projection.shape, weight.dtype)
    np.add.at(dense, (synapses.source.numpy(), synapses.target.numpy()), weight.reshape(-1)[synapses.index.numpy()])
    return dense


def _as_given(projection: Projection, dense: NDArray[Any]) -> Tensor:
    """Weights (S, T) in the shape of the projection's; the mean where several synapses share one."""
    given = projection.weight.detach()
    synapses = projection.synapses
    if synapses is None:
        return torch.from_numpy(dense).to(given.dtype)
    index = synapses.index.numpy()
    value = dense[synapses.source.numpy(), synapses.target.numpy()]
    count = np.maximum(np.bincount(index, minlength=given.numel()), 1)
    mean = np.bincount(index, value, given.numel()) / count
    return torch.from_numpy(mean).to(given.dtype).reshape(given.shape)
