"""The plastic synapses of one projection in one sample: weights, sensors, and who leads where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.engine.correlation import Moments, Sensors, Window, Wires, pass_events, wires
from spikeloop.engine.plan import delays_of
from spikeloop.errors import ShapeMismatch
from spikeloop.network import Network
from spikeloop.plasticity.floating import FloatSynapses
from spikeloop.plasticity.memory import Learned
from spikeloop.plasticity.rule import Plastic

_NONE: Moments = (np.zeros(0), np.zeros(0, np.int32))


class LearningSynapses:
    """The synapses of projection ``name`` of a sample's own ``network``, whose weights change with them."""

    name: str
    plastic: Plastic

    def __init__(self, network: Network, name: str, plastic: Plastic) -> None:
        self.name, self.plastic = name, plastic
        self._projection = network.projections[name]
        assert self._projection.shape is not None
        self._size: tuple[int, int] = self._projection.shape
        self._windows: tuple[Window, Window] | None = None
        self._sensors: Sensors | None = None
        self._wires: Wires | None = None
        if plastic.sensor is not None:
            pairs = zip(plastic.sensor.amplitudes, plastic.sensor.taus, strict=True)
            causal, anticausal = (Window(np.array([amplitude]), np.array([tau])) for amplitude, tau in pairs)
            self._windows = causal, anticausal
            self._sensors = Sensors.empty(self._projection.weight.numel(), self._size[1])
            self._wires = self._wired()

    @property
    def weight(self) -> NDArray[Any]:
        """(S, T) or (K,), model units, as the network has them: a view."""
        return self._projection.weight.detach().numpy()

    @property
    def source(self) -> NDArray[np.int64] | None:
        """(K,), of a sparse projection."""
        synapses = self._projection.synapses
        return None if synapses is None else synapses.source.numpy()

    def _ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        synapses, (sources, targets) = self._projection.synapses, self._size
        if synapses is not None:
            return synapses.source.numpy(), synapses.target.numpy()
        return np.repeat(np.arange(sources), targets), np.tile(np.arange(targets), sources)

    def _wired(self) -> Wires:
        kind, delay = delays_of(self._projection)
        return wires(*self._ends(), delay, kind, self._size)

    def resume(self, before: Learned, sample: int, sensors: object) -> None:
        """Go on with what was learned before."""
        weight = before.weight[self.name][sample]
        if weight.shape != self.weight.shape:
            raise ShapeMismatch(f"the learned weights are {weight.shape}", where=f"start, projection {self.name}",
                                expected=str(self.weight.shape))  # fmt: skip
        self._put(weight)
        if self.source is not None:
            self._move(before.source[self.name][sample])
        if self._sensors is not None:
            self._sensors = cast("Sensors", sensors).copy()

    def snapshot(self) -> Sensors | None:
        """The sensors, to `resume` with."""
        return None if self._sensors is None else self._sensors.copy()

    def pass_events(self, sent: Moments, fired: Moments | None, end: float) -> None:
        """The sources have ``sent`` and the targets ``fired`` until ``end``."""
        if self._sensors is not None and self._wires is not None and self._windows is not None:
            self._sensors = pass_events(self._sensors, self._wires, self._windows, sent, fired or _NONE, end)

    def view(self, where: str, seen: Mapping[str, NDArray[Any]]) -> FloatSynapses:
        """What a kernel sees now."""
        sensed: dict[str, NDArray[Any]] = {}
        if self._sensors is not None:
            shape = self.weight.shape
            sensed = {
                "causal": self._sensors.causal.reshape(shape),
                "anticausal": self._sensors.anticausal.reshape(shape),
            }
        ends = None if self.source is None else self._ends()
        return FloatSynapses(
            where, self.weight / np.float64(self.plastic.w_max), ends, {**seen, **sensed}, self._size[0]
        )

    def adopt(self, view: FloatSynapses) -> None:
        """Take over what a kernel left."""
        self._put(view.learned(self.plastic.lowest) * self.plastic.w_max)
        if view.reset and self._sensors is not None:
            self._sensors.causal[:] = 0
            self._sensors.anticausal[:] = 0
        if view.moved:
            self._forget(np.flatnonzero(view.sources != self.source))
            self._move(view.sources)

    def _put(self, weight: NDArray[Any]) -> None:
        with torch.no_grad():
            self._projection.weight.copy_(torch.from_numpy(weight))

    def _move(self, source: NDArray[np.int64]) -> None:
        pre = self._projection._buffers["pre"]
        assert pre is not None
        if not np.array_equal(source, pre.numpy()):
            pre.copy_(torch.from_numpy(source.copy()))
            self._wires = None if self._wires is None else self._wired()

    def _forget(self, moved: NDArray[np.int64]) -> None:
        """Synapses that moved have met nothing yet."""
        if self._sensors is not None:
            for value, empty in (
                (self._sensors.causal, 0),
                (self._sensors.anticausal, 0),
                (self._sensors.arrival, -np.inf),
            ):
                value[moved] = empty
