"""The twin of a BrainScaleS-2 chip: codes become distorted numbers, the engine runs them, instruments read them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop.chip.by_value import ByValue
from spikeloop.chip.circuits import Pattern
from spikeloop.chip.configuration import (
    CIRCUITS,
    CYCLE,
    DEPTH,
    LINKS,
    OUTPUTS,
    AddressedEvents,
    Configuration,
    Readout,
    whole,
)
from spikeloop.chip.imperfection import EVERYTHING, Imperfection, mismatch_without, noise_without
from spikeloop.chip.instruments import watch
from spikeloop.chip.mac import ArrayPass, check_factors
from spikeloop.chip.mismatch import Mismatch, Noise, Quantity, normals, uniforms
from spikeloop.chip.multiplier import tile
from spikeloop.chip.plan import Step, plan_of
from spikeloop.chip.ppu import Task
from spikeloop.chip.prepared import check_again, neurons_on
from spikeloop.chip.stretch import Going, stretch
from spikeloop.engine.arrays import Trains
from spikeloop.engine.arriving import only
from spikeloop.engine.bus import Entry, Exit, Left, arrived, leave
from spikeloop.engine.disturbed import Passage, Population, forward, keyed
from spikeloop.engine.disturbed import normals as stream
from spikeloop.engine.multiply import multiply
from spikeloop.errors import OutOfRange, WrongType, kind_of

_PLAIN = ArrayPass()


@dataclass(frozen=True)
class Twin:
    """Chip number ``seed``, as a program: a `Chip`.

    mismatch, noise: factors on the default strengths of the fixed pattern and of the trial-to-trial noise, or a
    `Mismatch` and a `Noise` with strengths of your own.  ideal: the imperfections to leave out.  step: how many cycles
    one step takes in runs that are carried out in steps, a power of two; what that costs is in docs/chip.md.

    The same seed is the same chip for ever; the same seed and trial number give the same readout, with any number of
    threads. Membranes follow ``tau_mem V' = (leak - V) + I``, ``tau_syn I' = -I`` exactly between events. At an arrival
    \\|I\\| is limited and V is no lower than the floor; both lines of a neuron decay with one time constant.
    """

    seed: int
    mismatch: float | Mismatch = 1.0
    noise: float | Noise = 1.0
    ideal: Collection[Imperfection] = field(default=frozenset(), repr=False)
    step: int = 1

    def __post_init__(self) -> None:
        if not hasattr(self.seed, "__index__") or self.seed < 0:
            raise OutOfRange(f"there is no chip {self.seed!r}", where="Twin", expected="a whole number, at least 0")
        for name, kind in (("mismatch", Mismatch), ("noise", Noise)):
            value = getattr(self, name)
            if not isinstance(value, float | int | kind):
                raise WrongType(f"{name} is {kind_of(value)}", where="Twin",
                                expected=f"a factor from 0 to 100, or a {kind.__name__}")  # fmt: skip
            if isinstance(value, float | int) and not 0 <= value < 100:
                raise OutOfRange(f"{name} is {value}", where="Twin", expected="a factor from 0 to 100")
        if isinstance(self.ideal, str) or not isinstance(self.ideal, Collection):
            raise _no_imperfection(f"ideal is {kind_of(self.ideal)}")
        for each in self.ideal:
            if not isinstance(each, Imperfection):
                raise _no_imperfection(f"ideal holds {each!r}")
        object.__setattr__(self, "ideal", frozenset(self.ideal))
        step = whole(self.step, "step", "Twin", 1)
        if step & (step - 1):
            raise OutOfRange(f"step is {step}", where="Twin", expected="a power of two, of cycles")

    def __repr__(self) -> str:
        parts = [str(self.seed)]
        parts += [f"{n}={v!r}" for n, v in (("mismatch", self.mismatch), ("noise", self.noise)) if v != 1.0]
        if self.ideal:
            names = sorted(each.name for each in self.ideal)
            parts.append("ideal=EVERYTHING" if self.ideal == EVERYTHING else f"ideal={{{', '.join(names)}}}")
        parts += [f"step={self.step}"] if self.step != 1 else []
        return f"Twin({', '.join(parts)})"

    @property
    def remembers(self) -> bool:
        """Whether it gives a state, to go on from, and has a plasticity processor."""
        return True

    @property
    def identity(self) -> str:
        """Which chip it is, in all that can differ from one to the next: names a calibration that is kept."""
        names = sorted(each.name for each in self.ideal)
        return f"Twin {self.seed}, {self.pattern().strengths}, {self.strengths()}, without {', '.join(names)}"

    def emulate(
        self,
        configuration: Configuration,
        drive: AddressedEvents,
        cycles: int,
        start: object | None = None,
        keep: bool = False,
        program: Mapping[str, Task] | None = None,
    ) -> Readout:
        """Run ``configuration`` for ``cycles`` of 8 ns on every drive of the batch.

        start: the state of a readout, to go on from, on its clock: the drive's cycles, and those that come back, count
        from where that clock began, and the noise is that trial's.  keep: whether the readout shall have its state.
        program: what the plasticity processor shall do meanwhile; each run then has an array of its own.
        A run with any of these, and one with any of a configuration's optional parts but sensors, is carried out in
        steps of `step` cycles; where it may be gone on from, it ends after a whole number of them, or with a call of
        the program.
        """
        cycles = whole(cycles, "cycles", "Twin.emulate", 1)
        drive.__post_init__()  # arrays can be changed in place after they were checked
        configuration.__post_init__()
        given = configuration
        added = given.terms, given.switches, given.inputs, given.drivers, drive.currents
        extended = any(part is not None for part in added)
        if keep or extended or start is not None or program:
            return stretch(self, configuration, drive, cycles, Going(start, keep, program or {}))
        return _Emulation(self, configuration, drive, cycles).readout()

    def multiply(
        self, weights: NDArray[np.int8], activations: NDArray[np.uint8], how: ArrayPass = _PLAIN
    ) -> NDArray[np.int8]:
        """(B, N): activations (B, K), 0..31, times weights (K, N), -63..63, in one pass of a part of the array."""
        check_factors(weights, activations, how, "Twin.multiply")
        part = tile(how, weights.shape, self.pattern(), self.ideal, self.strengths().mac)
        key = keyed(keyed(keyed(self.seed, Quantity.MAC_NOISE), how.trial), how.place)
        factors = np.ascontiguousarray(weights, np.int8), np.ascontiguousarray(activations, np.uint8)
        return multiply(part, *factors, key, torch.get_num_threads())

    def pattern(self) -> Pattern:
        """The fixed pattern: this chip's deviations from the laws of docs/chip.md."""
        return _pattern(self)

    def strengths(self) -> Noise:
        """The trial-to-trial noise that is left after factors and switches."""
        return _strengths(self)


def _no_imperfection(what: str) -> WrongType:
    return WrongType(
        what, where="Twin", expected=f"a set of {', '.join(each.name for each in Imperfection)}",
        todo="Write ideal={Imperfection.JITTER}, with Imperfection from spikeloop.chip.twin",
    )  # fmt: skip


@lru_cache(maxsize=64)
def _pattern(twin: Twin) -> Pattern:
    strengths = twin.mismatch if isinstance(twin.mismatch, Mismatch) else Mismatch().scaled(twin.mismatch)
    return Pattern(twin.seed, mismatch_without(strengths, twin.ideal))


@lru_cache(maxsize=64)
def _strengths(twin: Twin) -> Noise:
    noise = twin.noise if isinstance(twin.noise, Noise) else Noise().scaled(twin.noise)
    return noise_without(noise, twin.ideal)


class _Emulation:
    """One call of `Twin.emulate`."""

    def __init__(self, twin: Twin, configuration: Configuration, drive: AddressedEvents, cycles: int) -> None:
        self.twin, self.configuration, self.drive, self.cycles = twin, configuration, drive, cycles
        self.batch, self.duration, self.threads = len(drive), cycles * CYCLE, torch.get_num_threads()
        self.noise = twin.strengths()
        routing, analog = ByValue(configuration.routing), ByValue(configuration.analog)
        instruments = ByValue(configuration.instruments)
        check_again(routing, analog, instruments)
        self.neurons = neurons_on(analog, routing, twin)
        self.plan = plan_of(routing, instruments, self.neurons)
        code = np.ascontiguousarray(configuration.weight, np.uint8).reshape(-1)
        self.weights = self.plan.weights(code, self.threads)
        self.lost = np.zeros(self.batch, np.int64)
        phase = self.noise.cadc_phase * uniforms(self.key(Quantity.CADC_PHASE), 0, (self.batch,))
        self.watch = watch(configuration.instruments, cycles, phase)

    def key(self, quantity: Quantity) -> int:
        """The stream of a quantity in this trial."""
        return keyed(keyed(self.twin.seed, quantity), self.drive.trial)

    @cached_property
    def wander(self) -> NDArray[np.float64]:
        """(512,): how far this run's thresholds are off, of their rms."""
        return normals(self.key(Quantity.THRESHOLD_RUN), 0, (CIRCUITS,))

    def readout(self) -> Readout:
        """Run stage after stage and read the instruments."""
        sent: list[Left] = []
        arrived = self._from_outside()
        for number, step in enumerate(self.plan.steps):
            spikes = self._run(number, step, arrived, sent)
            if step.sends:
                sent.append(self._on_the_bus(len(sent), spikes, step))
        of, pattern = self.neurons.of, self.twin.pattern()
        cadc = self.watch.cadc(of, pattern, self.noise, self.key(Quantity.CADC_NOISE), self.neurons.written)
        madc = self.watch.madc(of, self.noise, self.key(Quantity.MADC_NOISE))
        return Readout._trusted(*self._time_stamps(sent), self.lost, cadc, self.watch.cycle, madc)

    # ---- events ------------------------------------------------------------------------------------------------

    def _from_outside(self) -> Trains:
        drive, plan = self.drive, self.plan
        cycle, start = (np.ascontiguousarray(of, np.int64) for of in (drive.cycle, drive.start))
        address = np.ascontiguousarray(drive.address, np.uint16)
        entry = Entry(0 if Imperfection.CAPACITY in self.twin.ideal else LINKS, DEPTH, CYCLE, self.cycles)
        time, source, known = arrived((cycle, address, start), plan.source, entry, self.lost, self.threads)
        if not known:
            source = plan.sources_of(address)
        if self.lost.any():  # what comes when the run is over is lost, too
            return only((time, source, start), time >= 0)
        return time, source, start

    def _run(self, number: int, step: Step, arrived: Trains, sent: list[Left]) -> Trains:
        outside = self.plan.outside[number]
        sources = [(arrived, self.weights(outside))] if len(outside.cell) else []
        sources += [(sent[k].trains, self.weights(wires)) for k, wires in step.inside]
        sampling = self.watch.sampling(step.watched)
        spikes = forward(
            sources,
            self._population(step),
            Passage(self.batch, self.duration, CYCLE, self.key(Quantity.ENGINE), self.threads),
            loop=None if step.loop is None else self.weights(step.loop),
            silent=self._muted(step),
            sampling=sampling,
        )
        self.watch.keep(sampling, step.neuron)
        return spikes

    def _population(self, step: Step) -> Population:
        """The stage's neurons with this run's thresholds."""
        if not self.noise.threshold_run:
            return step.population
        values = step.population.values.copy()
        values[2] += self.noise.threshold_run * self.wander[step.head] * self.neurons.distance[step.neuron]
        return Population(values, step.population.disturbance)

    def _muted(self, step: Step) -> NDArray[np.uint8] | None:
        if not len(self.drive.muted):
            return None
        return np.ascontiguousarray(self.drive.muted[:, step.head], np.uint8)

    def _on_the_bus(self, number: int, spikes: Trains, step: Step) -> Left:
        """Spikes as they leave: with jitter, one after the other; units stay those of the stage."""
        late = None
        if self.noise.jitter:
            late = stream(keyed(self.key(Quantity.JITTER), number), len(spikes[0]))
        output = None if Imperfection.CAPACITY in self.twin.ideal else step.output
        exits = Exit(
            step.sending.view(np.uint8), output, OUTPUTS, DEPTH, CYCLE, self.duration, self.cycles, step.label,
            self.noise.jitter,
        )  # fmt: skip
        return leave(spikes, late, exits, self.lost, self.threads)

    def _time_stamps(self, sent: list[Left]) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.int64]]:
        if len(sent) == 1:
            return sent[0].cycle, sent[0].address, sent[0].trains[2]
        cycle = np.concatenate([np.zeros(0, np.int64), *(each.cycle for each in sent)])
        address = np.concatenate([np.zeros(0, np.uint16), *(each.address for each in sent)])
        start = sum((each.trains[2] for each in sent), np.zeros(self.batch + 1, np.int64))
        samples = [np.repeat(np.arange(self.batch), np.diff(each.trains[2])) for each in sent]
        order = np.argsort(cycle + np.concatenate([np.zeros(0, np.int64), *samples]) * self.cycles, kind="stable")
        return cycle[order], address[order], start
