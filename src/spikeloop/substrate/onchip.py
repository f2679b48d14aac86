"""A chip as a substrate: lower, emulate, lift."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from spikeloop.chip.calibrate import Calibration
from spikeloop.chip.configuration import CADC_PERIOD_MIN, CYCLE, MADC_NEURONS, Chip, whole
from spikeloop.chip.lower_weights import lower_weights
from spikeloop.chip.mapping import Rows, refuse
from spikeloop.chip.setup import Wish, setup_of
from spikeloop.chip.split import Part, split
from spikeloop.chip.transfer import MADC_PERIOD
from spikeloop.errors import DoesNotFit, OutOfRange, Unsupported, WrongType, kind_of
from spikeloop.network import Network
from spikeloop.protocols import Every, Observe, Trial
from spikeloop.record import Record
from spikeloop.substrate.chip_state import continued
from spikeloop.substrate.in_parts import in_parts, known_parts
from spikeloop.substrate.one_chip import emulated

_NEVER = 1e6  # seconds: no sampling is as slow, so that all of it is the fast converter's


@dataclass(frozen=True)
class OnChip:
    """Runs networks on ``chip``, at ``speedup`` model seconds per chip second.

    The chips of a list take turns: run number k (``trial.number``, or how many there were) is on chip k modulo their
    number. A network that is too large for one chip is split by populations, and those by neurons: its parts run one
    after the other, on the same chip or on the list's in turn, and the spikes that were recorded of one are sent into
    the next. ``runs`` limits how many there may be; ``record.lowering.run`` says who was in which.

    rows_per_input: how many row pairs each input line takes; one event can then add that many times the largest weight.
    calibration: the codes to use, made for neurons like the network's (its target scales potentials and weights);
    without one the chip is calibrated on first use, and that is kept, with ``cache`` on disk, too
    (`spikeloop.chip.store`).  strict: weights beyond the range and failed circuits in use are errors, where they are
    clipped and warned of otherwise; ``record.lowering`` counts them.

    Neurons are placed on circuits that could be calibrated, as far as there are enough. Membranes are sampled by the
    column ADC, every 1.7 us of chip time at best; by the fast one, every 34 ns, where a shorter period is asked for of
    two neurons at most: ``Every(period, neurons)``. Peaks are those of the column ADC's samples. ``trial.number``
    chooses the draw of a twin's noise; without one every run is another.
    """

    steady: ClassVar[bool] = True
    """See `Substrate`."""

    chip: Chip | Sequence[Chip]
    speedup: float = 1000.0
    rows_per_input: int = 1
    calibration: Calibration | None = None
    strict: bool = False
    cache: bool = True
    runs: int | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.speedup, Real):
            raise WrongType(f"speedup is {kind_of(self.speedup)}", where="OnChip", expected="a number")
        if not 0 < self.speedup < float("inf"):
            raise OutOfRange(f"speedup is {self.speedup}", where="OnChip", expected="model seconds per chip second")
        whole(self.rows_per_input, "rows_per_input", "OnChip", 1)
        if isinstance(self.chip, Sequence):
            if not self.chip:
                raise OutOfRange("no chip is given", where="OnChip", expected="a chip, or a list of them")
            object.__setattr__(self, "chip", tuple(self.chip))
        for chip in self.chips:
            _check_chip(chip)
        if self.calibration is not None and not isinstance(self.calibration, Calibration):
            raise WrongType(f"the calibration is {kind_of(self.calibration)}", where="OnChip",
                            expected="a Calibration, such as calibrate(chip, target) makes, or None")  # fmt: skip
        if self.runs is not None:
            whole(self.runs, "runs", "OnChip", 1)

    def __repr__(self) -> str:
        chips = ", ".join(map(repr, self.chips))
        given = "" if self.calibration is None else ", calibrated"
        shown = f"[{chips}]" if isinstance(self.chip, tuple) else chips
        return f"OnChip({shown}, speedup={self.speedup:g}, rows_per_input={self.rows_per_input}{given})"

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The chip, or the chips."""
        return tuple(self.chip) if isinstance(self.chip, Sequence) else (self.chip,)

    @property
    def _remembers(self) -> bool:
        """Whether the chips give states, and have plasticity processors."""
        return all(getattr(chip, "remembers", False) for chip in self.chips)

    @property
    def period(self) -> float:
        """Model seconds between samples of the column ADC, at best."""
        return CADC_PERIOD_MIN * CYCLE * self.speedup

    def offers(self, network: Network) -> Observe:
        """Every membrane and its highest sample, every 1.7 us of chip time at best, two neurons every 34 ns.

        Adaptations by the fast converter only: of two neurons. The state, and weights that a rule changes, of chips
        that have them (a `Twin`). Of a population that takes several runs only the highest samples: each run samples at
        times of its own.
        """
        names = [name for name, population in network.populations.items() if population.kind is not None]
        try:
            parts = self._parts(network)
        except (DoesNotFit, Unsupported):  # `run` says it
            parts = []
        cut = {name for part in parts for name in part.first if part.cuts(network, name)}
        few = None if parts else (MADC_NEURONS, MADC_PERIOD * self.speedup)
        remembers = self._remembers
        plastic = {name for program in network.programs.values() for name in program.projections}
        places = [place for name in names for place in network.places(name)]
        adapting = places if remembers and not parts else []
        return Observe(
            {name: Every(self.period) for name in places if name not in cut},
            frozenset(names), remembers, few,
            adaptation={name: Every(_NEVER) for name in adapting}, history=plastic if remembers else (),
        )  # fmt: skip

    def run(self, trial: Trial) -> Record:
        """Carry out ``trial``."""
        parts = self._parts(trial.network)
        before = known_parts(trial, len(parts)) if parts else continued(trial)
        number = next(self._numbers) if trial.number is None else trial.number
        number = number if before is None else before.number
        if not self._remembers:
            self._refuse(trial)
        if not parts:
            return emulated(trial, setup_of(trial.network, self._wish(number, self.rows_per_input)), number)
        return in_parts(trial, [(part, self._wish(k, part.rows)) for k, part in enumerate(parts)], number)

    def weight_codes(self, network: Network) -> dict[str, Tensor]:
        """By projection, (S, T) int32: the signed codes of its weights, of a synapse's rows together."""
        parts = [(part.taken(network), part.rows) for part in self._parts(network)] or [(network, self.rows_per_input)]
        codes: dict[str, list[Tensor]] = {name: [] for name in network.projections}
        for k, (of, rows) in enumerate(parts):
            setup = setup_of(of, self._wish(k, rows))
            lowered = lower_weights(of, setup.placement, setup.scales, self.strict)
            for name, code in lowered.codes.items():
                codes[name].append(torch.from_numpy(code))
        return {name: torch.cat(found, 1) for name, found in codes.items()}

    def _refuse(self, trial: Trial) -> None:
        """Raise ``Unsupported`` where only a chip that remembers could carry it out."""
        what = "weights change" if trial.network.programs else "a state is wanted" if trial.observe.state else ""
        what = "it goes on from a state" if trial.start is not None else what
        if what:
            raise Unsupported(f"{what}, and the chip forgets", where=repr(self), expected="a Twin",
                              todo="Run it on a Twin, or on Ideal()")  # fmt: skip

    def _parts(self, network: Network) -> list[Part]:
        refuse(network)
        parts = split(network, self.rows_per_input)
        if parts and self.calibration is not None:
            raise Unsupported(
                f"the network takes {len(parts)} runs, and a calibration is for one", where=repr(self),
                todo="Leave calibration out: each run then gets its own",
            )  # fmt: skip
        if parts and self.runs is not None and len(parts) > self.runs:
            raise DoesNotFit(
                f"the network takes {len(parts)} runs", where=repr(self), expected=f"at most {self.runs}",
                todo="Raise runs, or take fewer neurons, fewer inputs or fewer rows_per_input",
            )  # fmt: skip
        return parts

    def _wish(self, run: int, rows: Rows) -> Wish:
        chip = self.chips[run % len(self.chips)]
        return Wish(chip, self.speedup, rows, self.calibration, self.strict, self.cache)


def _check_chip(chip: object) -> None:
    """Raise ``WrongType`` where it is none, a class for an object of it included."""
    if isinstance(chip, type) or not hasattr(chip, "emulate"):
        todo = f"Write {chip.__name__}(...): an object of it" if isinstance(chip, type) else "Write OnChip(Twin(7))"
        raise WrongType(f"{kind_of(chip)} is no chip", where="OnChip", expected="a chip, or a list of them", todo=todo)
