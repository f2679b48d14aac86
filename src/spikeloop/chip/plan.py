"""In which order the neurons of a configured chip are run, and through which wires; made once per configuration."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.by_value import ByValue
from spikeloop.chip.circuits import NOT_SPIKING, Neurons
from spikeloop.chip.configuration import COLUMNS, OUTPUTS, Instruments, Integers, Routing
from spikeloop.chip.wiring import Indices, Wires, external, internal, own_labels, stages
from spikeloop.engine.disturbed import Population

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Step:
    """Neurons that run together.

    neuron: (n,), which of the chip's, ascending; head: (n,), their circuits; population: as the engine takes them.
    watched: which of the n an instrument looks at, in the order in which instruments name them.  inside: (number of an
    earlier sending step, wires from it).  loop: wires among themselves.  sending: (n,), whose spikes become events.
    label: (n,), bits 0-10 of those.
    """

    neuron: Indices
    head: Indices
    population: Population
    watched: NDArray[np.int32]
    inside: tuple[tuple[int, Wires], ...]
    loop: Wires | None
    sending: NDArray[np.bool_]
    label: Indices

    @cached_property
    def sends(self) -> bool:
        """Whether anybody's spikes become events."""
        return bool(self.sending.any())

    @cached_property
    def output(self) -> NDArray[np.int32]:
        """(n,): by which of the outputs their events leave."""
        return (self.head % COLUMNS // (COLUMNS // OUTPUTS)).astype(np.int32)


class Plan:
    """The steps of a configuration's routing; wires from outside are found as their addresses first come up.

    height: flat in (half, row, column), what weight 1 of a synapse adds to its neuron's current, volts.  outside: by
    step, the wires from the addresses so far; source: which of those an address is.
    """

    routing: Routing
    neurons: Neurons
    height: NDArray[np.float32]
    steps: list[Step]
    address: NDArray[np.int64]
    source: NDArray[np.int32]
    outside: list[Wires]
    _wired: tuple[bytes, dict[Wires, NDArray[np.float32]]]

    def __init__(
        self, routing: Routing, neurons: Neurons, instruments: Instruments, coupled: NDArray[np.bool_] | None = None
    ) -> None:
        self.routing, self.neurons = routing, neurons
        self.height = (routing.row_sign.astype(np.float32)[:, :, None] * neurons.synapse).ravel()
        watched = neurons.of[np.concatenate([instruments.cadc_circuit, instruments.madc_circuit]).astype(np.int64)]
        self.steps = _steps(routing, neurons, np.array(list(dict.fromkeys(watched.tolist())), np.int64), coupled)
        self.address = np.zeros(0, np.int64)
        self.source = np.full(1 << 16, -1, np.int32)
        self.outside = [Wires(_NONE.astype(np.int32), _NONE, (0, len(step.neuron))) for step in self.steps]
        self._wired = b"", {}

    def weights(self, code: NDArray[np.uint8], threads: int) -> Callable[[Wires], NDArray[np.float32]]:
        """What gives the weights of wires, (S, N), for codes, flat in half, row, column; kept while those are the same.

        Nobody writes to them.
        """
        held, known = code.tobytes(), self._wired
        if known[0] != held:
            known = self._wired = held, {}

        def of(wires: Wires) -> NDArray[np.float32]:
            if wires not in known[1]:
                kept = np.frombuffer(held, np.uint8)  # what `code` is a view of may change meanwhile
                known[1][wires] = wires.weights(kept, self.height, threads)
            return known[1][wires]

        return of

    def sources_of(self, address: Integers) -> NDArray[np.int32]:
        """The source that each of ``address`` is, whose wires are known from then on."""
        source = self.source[address]
        if source.min(initial=0) < 0:
            self.cover(address)
            source = self.source[address]
        return source

    def cover(self, address: Integers) -> None:
        """Know the wires from all of ``address``."""
        new = np.unique(address[self.source[address] < 0]).astype(np.int64)
        if not len(new):
            return
        self.address = np.concatenate([self.address, new])
        self.source[new] = np.arange(len(self.address) - len(new), len(self.address))
        wires, every = external(self.routing, new, self.neurons.of, len(self.neurons.head)), np.arange(len(new))
        self.outside = [
            known.beside(wires.part(every, step.neuron)) for known, step in zip(self.outside, self.steps, strict=True)
        ]


@lru_cache(maxsize=16)
def plan_of(routing: ByValue[Routing], instruments: ByValue[Instruments], neurons: Neurons) -> Plan:
    """The plan of a configuration, which comes to know wires from outside as addresses are looked up."""
    return Plan(copy.deepcopy(routing.value), neurons, instruments.value)


def _steps(routing: Routing, neurons: Neurons, watched: Indices, coupled: NDArray[np.bool_] | None) -> list[Step]:
    """coupled: (N, N), which compartments are of one neuron; they run together, and whatever may get events is run.

    watched: each neuron once.
    """
    fires = neurons.population.values[2] < NOT_SPIKING
    fires[watched] = True
    if coupled is not None:
        fires[neurons.of[np.asarray(routing.label, bool).any(1).ravel()]] = True
        fires |= coupled[fires].any(0)
    active = np.flatnonzero(fires)
    sending = np.asarray(routing.sends, bool)[neurons.head]
    label = own_labels(routing, neurons.head)
    wires = internal(routing, neurons.head, neurons.of).part(active, active)
    steps: list[Step] = []
    senders: list[tuple[int, Indices]] = []
    reaches = wires.connected()
    if coupled is not None:
        reaches = reaches | coupled[np.ix_(active, active)]
    for members, loops in stages(reaches):
        neuron = active[members]
        inside = [(k, wires.part(them, members)) for k, them in senders]
        steps.append(
            Step(
                neuron,
                neurons.head[neuron],
                neurons.population.part(neuron),
                np.searchsorted(neuron, watched[np.isin(watched, neuron)]).astype(np.int32),
                tuple((k, part) for k, part in inside if len(part.cell)),
                wires.part(members, members) if loops else None,
                sending[neuron],
                label[neuron],
            )
        )
        if steps[-1].sends:
            senders.append((len(senders), members))
    return steps
