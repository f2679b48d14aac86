"""Runs of a twin in which its plasticity processor changes weights: cut at its calls, each with an array of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from spikeloop._warn import warn
from spikeloop.chip import transfer
from spikeloop.chip.configuration import CIRCUITS, CYCLE, AddressedEvents, Configuration, Readout
from spikeloop.chip.groups import Chipful, check_end
from spikeloop.chip.instruments import channels_of
from spikeloop.chip.mismatch import Float
from spikeloop.chip.ppu import Executed, Learning, Processor
from spikeloop.chip.stepwise import ChipState, Stepwise, potentials
from spikeloop.plasticity.watchdog import Watchdog

_OFTEN = 0.02  # of the calls: that few late ones are not worth a warning


@dataclass(frozen=True, eq=False)
class LearningState:
    """Where the runs of a batch were cut, each with its chip and its processor."""

    chips: tuple[ChipState, ...]
    learning: tuple[Learning, ...]
    owner: object

    def __len__(self) -> int:
        return len(self.chips)


@dataclass(frozen=True, eq=False)
class Processed:
    """What the processor of one run did: its array and synapses in the end, and by task what was executed."""

    learning: Learning
    log: Mapping[str, Executed]


def learn(
    chip: Chipful,
    processor: Processor,
    configuration: Configuration,
    drive: AddressedEvents,
    cycles: int,
    start: LearningState | None,
    owner: object,
) -> Readout:
    """The readout of runs of ``cycles``, whose weights are their own from the first call on."""
    outs, chips, done = list[Readout](), list[ChipState](), list[Processed]()
    with Watchdog() as watchdog:
        for sample in range(len(drive)):
            run = _Run(chip, processor, configuration, _only(drive, sample), sample, start)
            outs.append(run.through(cycles, owner, watchdog))
            chips.append(run.state)  # type: ignore[arg-type]
            done.append(Processed(run.learning, run.log))
    _report(done)
    learning = tuple(each.learning.copy() for each in done)
    return replace(_side_by_side(outs), state=LearningState(tuple(chips), learning, owner), program=tuple(done))


class _Run:
    """One run on its way."""

    def __init__(
        self, chip: Chipful, processor: Processor, configuration: Configuration, drive: AddressedEvents, sample: int,
        start: LearningState | None,
    ) -> None:  # fmt: skip
        self.chip, self.processor, self.configuration = chip, processor, configuration
        self.drive, self.sample = drive, sample
        self.state = None if start is None else start.chips[sample]
        weight = np.ascontiguousarray(configuration.weight, np.uint8).reshape(-1)
        self.learning = processor.begin(weight, sample)
        if start is not None:
            self.learning = processor.resumed(start.learning[sample].copy(), sample)
        self.log = {name: Executed() for name in processor.tasks}
        self.outs: list[Readout] = []

    def through(self, cycles: int, owner: object, watchdog: Watchdog) -> Readout:
        first = 0 if self.state is None else self.state.cycle
        now, last = first, first + cycles
        calls = self.processor.due(self.learning, first, last)
        check_end(self.chip, last, [cycle for cycle, _ in calls])
        self.learning.waiting = ()
        for place, (cycle, name) in enumerate(calls):
            at = max(cycle, self.learning.free)
            if any(other == name and later <= at for later, other in calls[place + 1 :]):
                self.log[name].skipped += 1
                continue
            if at > last:
                self.learning.waiting += ((cycle, name),)
                continue
            self.log[name].late += at > cycle
            self.log[name].due.append(cycle)
            self._advance(now, at, owner)
            now = max(now, at)
            membrane = self._membrane()
            self.processor.call(self.learning, name, (at, self.sample), membrane, watchdog, self.log[name])
        self._advance(now, last, owner)
        return _one_after_the_other(self.outs)

    def _advance(self, now: int, until: int, owner: object) -> None:
        weight = self.learning.weight.reshape(self.configuration.weight.shape)
        configuration = replace(self.configuration, weight=weight)
        for begin, end, step in self.chip.pieces(now, until):
            drive = _between(self.drive, begin, end)
            run = Stepwise(self.chip, configuration, drive, end - begin, self.state, self.sample, step)
            out, self.state = run.run(owner)
            self.outs.append(out)
            self.processor.passed(self.learning, run.events(), end * CYCLE)

    def _membrane(self) -> Float:
        """(512,) steps, as the column ADC's channels show them."""
        if self.state is None:
            volts = self.chip.neurons.population.values[3][self.chip.neurons.of]
        else:
            volts = potentials(self.chip, self.state)
        gain, offset = channels_of(self.chip.pattern, self.chip.neurons.written)
        offset = offset + self.configuration.instruments.cadc_offset
        centre = transfer.CADC_CENTRE
        return np.clip(np.rint(centre + gain * (transfer.steps_of_volts(volts) - centre) + offset), 0, 255)


def _only(drive: AddressedEvents, sample: int) -> AddressedEvents:
    part = slice(int(drive.start[sample]), int(drive.start[sample + 1]))
    muted = drive.muted[sample : sample + 1] if len(drive.muted) else np.zeros((0, CIRCUITS), bool)
    count = part.stop - part.start
    currents = None if drive.currents is None else drive.currents.of(sample)
    return AddressedEvents(drive.cycle[part], drive.address[part], np.array([0, count]), muted, drive.trial, currents)


def _between(drive: AddressedEvents, first: int, last: int) -> AddressedEvents:
    keep = (drive.cycle >= first) & (drive.cycle < last)
    cycle, address = drive.cycle[keep], drive.address[keep]
    return AddressedEvents(cycle, address, np.array([0, len(cycle)]), drive.muted, drive.trial, drive.currents)


def _one_after_the_other(outs: list[Readout]) -> Readout:
    """Stretches of one run."""
    cycle, address = (np.concatenate([getattr(out, name) for out in outs]) for name in ("cycle", "address"))
    lost = np.sum([out.lost for out in outs], 0)
    cadc, stamps, madc = (np.concatenate([getattr(o, n) for o in outs], 1) for n in ("cadc", "cadc_cycle", "madc"))
    return Readout(cycle, address, np.array([0, len(cycle)]), lost, cadc, stamps, madc)


def _side_by_side(outs: list[Readout]) -> Readout:
    """Runs of one batch."""
    parts = ("cycle", "address", "lost", "cadc", "cadc_cycle", "madc")
    cycle, address, lost, cadc, stamps, madc = (np.concatenate([getattr(out, name) for out in outs]) for name in parts)
    start = np.append(0, np.cumsum([len(out.cycle) for out in outs]))
    return Readout(cycle, address, start, lost, cadc, stamps, madc)


def _report(done: list[Processed]) -> None:
    """Warn of kernels that take longer than the time between their calls."""
    for name in done[0].log if done else ():
        logs = [each.log[name] for each in done]
        made = sum(len(log.time) for log in logs)
        late, skipped = sum(log.late for log in logs), sum(log.skipped for log in logs)
        if late + skipped > _OFTEN * max(made, 1):
            longest = max((max(log.cycles, default=0) for log in logs), default=0)
            warn(
                f"the plasticity processor has no time for program {name!r}: a call takes up to "
                f"{longest * CYCLE:.3g} s of chip time, {late} calls were late and {skipped} skipped."
            )
