"""A network made ready for one chip: placed on circuits that can be calibrated, with their codes and scales."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from spikeloop._warn import warn
from spikeloop.chip import lower_drivers, lower_inputs, lower_neurons, lower_terms, transfer
from spikeloop.chip.by_value import locked
from spikeloop.chip.calibrate import VERSION, Calibration, Target
from spikeloop.chip.calibration import refractory_code
from spikeloop.chip.configuration import CIRCUITS, Analog, Chip, Flags, Instruments
from spikeloop.chip.drivers import Drivers
from spikeloop.chip.inputs import Inputs
from spikeloop.chip.lower_weights import Latest
from spikeloop.chip.mapping import Placement, Rows, place, site_key
from spikeloop.chip.receptors import lines_of
from spikeloop.chip.scales import Float, Scale, calibrated_scale
from spikeloop.chip.store import calibrated, calibrated_offsets, calibrated_terms
from spikeloop.chip.terms import Kinds, Switches, Terms
from spikeloop.errors import DoesNotFit, OutOfRange
from spikeloop.network import Network

_ROUNDS = 4  # of calibrating and placing anew; the second nearly always suffices
_SAME = 0.01  # relative: what a calibration was for is what is asked
_SLACK = {
    "tau_mem": (0.0, " s"), "tau_syn": (0.0, " s"),
    "reset": (0.02, " of the way to the threshold"), "refractory": (0.1e-6, " s"),
}  # fmt: skip
Part = TypeVar("Part", Terms, Switches, Inputs, Drivers)
_KEPT = 8  # setups of one network: its neurons' values may change at every step
_ROUNDED = 0.03  # of a refractory time: what the chip's own calibration tolerates (hardware.md 1.3)


@dataclass(frozen=True)
class Wish:
    """How a network shall be put on a chip; the fields are those of `OnChip`."""

    chip: Chip
    speedup: float
    rows_per_input: Rows
    calibration: Calibration | None
    strict: bool
    cache: bool

    @property
    def key(self) -> tuple[object, ...]:
        """What tells wishes apart."""
        rows = self.rows_per_input
        rows = rows if isinstance(rows, int) else tuple(sorted(rows.items()))
        return id(self.chip), id(self.calibration), self.speedup, rows, self.strict, self.cache


@dataclass(frozen=True, eq=False)
class Setup:
    """What stays the same from run to run of a network on a chip.

    scales: by population (that of its output) and by compartment.  watch: instruments, by what they look at.  latest:
    weights.
    """

    wish: Wish
    placement: Placement
    calibration: Calibration
    analog: Analog
    scales: dict[str, Scale]
    terms: Terms | None = None
    switches: Switches | None = None
    inputs: Inputs | None = None
    drivers: Drivers | None = None
    watch: dict[object, Instruments] = field(default_factory=dict)
    latest: Latest = field(default_factory=Latest)

    @cached_property
    def placed(self) -> int:
        """Circuits in use."""
        return int(self.placement.used.sum())

    @cached_property
    def failed(self) -> int:
        """Circuits in use that failed their calibration."""
        return int((self.placement.used & ~self.calibration.success).sum())

    @cached_property
    def masked(self) -> int:
        """Circuits that failed it, and are not in use."""
        return int((~self.placement.used & ~self.calibration.success).sum())


_setups: WeakKeyDictionary[Network, dict[object, Setup]] = WeakKeyDictionary()


def setup_of(network: Network, wish: Wish) -> Setup:
    """Placement, calibration and scales; made anew when a neuron or a synapse's ends changed, in place or not."""
    synapses = tuple(projection.synapses for projection in network.projections.values())
    lines = tuple(lines_of(network).values())
    short = tuple(lower_drivers.key_of(projection) for projection in network.projections.values())
    key, known = (wish.key, synapses, lines, short, _values(network)), _setups.setdefault(network, {})
    if key not in known:
        if len(known) == _KEPT:
            known.pop(next(iter(known)))
        known[key] = _made(network, wish)
    return known[key]


def _values(network: Network) -> bytes:
    """All that neurons are."""
    made = network.standing().made
    arrays = made.get(_values)
    if arrays is None:
        fields = [(population, name) for population in network.populations.values() for name in population.fields]
        arrays = [getattr(*field).detach().to(torch.float64).numpy() for field in fields]
        stored = [population._buffers.get(name) for population, name in fields]
        if all(of is not None and of.dtype == torch.float64 for of in stored):  # views: what is written in place shows
            made[_values] = arrays
    return b"|".join(array.tobytes() for array in arrays)


def _made(network: Network, wish: Wish) -> Setup:
    placement, calibration = _placed(network, wish)
    spiking, scales = np.zeros(CIRCUITS, bool), dict[str, Scale]()
    for name, population in network.populations.items():
        for site in population.structure.sites if population.structure is not None else ():
            circuit = placement.site[site_key(name, site.name)]
            spiking[circuit[:, 0]] = site.fires
            scale = calibrated_scale(population, circuit, calibration.target, site.name)
            scales[site_key(name, site.name)] = scale
            if population.structure is not None and site.name == population.structure.output:
                scales[name] = scale
    wanted = lower_terms.terms_target(network, placement, wish.speedup)
    terms = lower_terms.nominal_terms(wanted, calibration.target, placement.routing.head, placement)
    switches = lower_terms.nominal_switches(placement.switches, wanted)
    inputs = lower_inputs.nominal_inputs(network, placement, calibration.target, scales, wish.speedup)
    kinds = _kinds(wanted, inputs)
    if wish.calibration is None and any(kinds):
        found = calibrated_terms(wish.chip, calibration, kinds, wish.cache)
        terms, switches, inputs = found.terms(terms), found.switches(switches), found.inputs(inputs)
    analog = locked(replace(calibration.analog, fires=spiking))
    setup = Setup(
        wish, placement, calibration, analog, scales,
        _kept(terms), _kept(switches), _kept(inputs), _kept(_drivers(network, placement, wish)),
    )  # fmt: skip
    _report(setup)
    _report_holds(network, setup)
    return setup


def _kinds(wanted: lower_terms.TermsTarget, inputs: Inputs | None) -> Kinds:
    """What is to be calibrated beside `Analog`, but for constant currents."""
    if inputs is None:
        return wanted.kinds
    return wanted.kinds._replace(line=bool(inputs.separate.any()), reversal=bool(inputs.conductance.any()))


def strength_of_currents(setup: Setup) -> Float:
    """(512,): constant currents over what the law gives; measured when they are first wanted."""
    if setup.wish.calibration is not None:
        return np.ones(CIRCUITS)
    kinds = Kinds(False, False, False, offset=True)
    return calibrated_terms(setup.wish.chip, setup.calibration, kinds, setup.wish.cache).current


def _drivers(network: Network, placement: Placement, wish: Wish) -> Drivers | None:
    """The codes of plastic drivers; their ramps' offsets are measured unless a calibration is given."""
    drivers = lower_drivers.nominal_drivers(network, placement, wish.speedup)
    if drivers is None or wish.calibration is not None:
        return drivers
    return replace(drivers, offset=calibrated_offsets(wish.chip, wish.cache))


def _kept(part: Part | None) -> Part | None:
    return None if part is None else locked(part)


def _placed(network: Network, wish: Wish) -> tuple[Placement, Calibration]:
    """Where the network goes, on circuits that calibrate as far as there are any, and their calibration.

    What circuits shall be depends on who uses them, and whether they can on a measurement: so the network is placed,
    the chip calibrated for it, and placed anew until no circuit in use fails that another could replace.
    """
    bad = np.zeros(CIRCUITS, bool)
    placement = _place(network, wish.rows_per_input, bad)
    if wish.calibration is not None:
        _check(wish.calibration, wish.chip)
        _check_target(network, placement, wish)
        if not wish.calibration.target.uniform:  # its circuits were made for the neurons that this puts on them
            return placement, wish.calibration
    for _ in range(_ROUNDS):
        calibration = _calibration(network, placement, wish)
        bad = bad | ~calibration.success
        better = _place(network, wish.rows_per_input, bad)
        if _loss(better, bad) >= _loss(placement, bad):
            return placement, calibration
        placement = better
    return placement, _calibration(network, placement, wish)


def _calibration(network: Network, placement: Placement, wish: Wish) -> Calibration:
    if wish.calibration is not None:
        return wish.calibration
    return calibrated(wish.chip, lower_neurons.target_of(network, placement, wish.speedup), wish.cache)


def _place(network: Network, rows_per_input: Rows, bad: Flags) -> Placement:
    """On good circuits, unless the buses then do not reach everybody any more."""
    if bad.any():
        try:
            return place(network, rows_per_input, bad)
        except DoesNotFit:
            pass
    return place(network, rows_per_input)


def _loss(placement: Placement, bad: Flags) -> float:
    """Over the populations, the share of neurons that have a bad circuit: those of small ones count more."""
    return sum(float(bad[circuit].any(1).mean()) for circuit in placement.circuit.values())


def _check(calibration: Calibration, chip: Chip) -> None:
    if calibration.chip != repr(chip) or calibration.version != VERSION:
        raise OutOfRange(
            f"the calibration is of {calibration.chip}, version {calibration.version}",
            where="OnChip",
            expected=f"one of {chip!r}, version {VERSION}",
            todo="Calibrate this chip: calibrate(chip, target), or leave calibration out",
        )


def _check_target(network: Network, placement: Placement, wish: Wish) -> None:
    """Potentials and weights are scaled by what a calibration was for; what else neurons are has to be that."""
    assert wish.calibration is not None
    wanted, given = (
        _measures(of) for of in (lower_neurons.target_of(network, placement, wish.speedup), wish.calibration.target)
    )
    for name, circuit in placement.circuit.items():
        fields = _SLACK if network.populations[name].spiking else ("tau_mem", "tau_syn")
        for what in fields:
            asked, found = wanted[what][circuit], given[what][circuit]
            slack, unit = _SLACK[what]
            wrong = np.abs(found - asked) > slack + _SAME * np.abs(asked)
            if wrong.any():
                raise OutOfRange(
                    f"the calibration is for a {what} of {found[wrong][0]:g}{unit}, not {asked[wrong][0]:g}{unit}",
                    where=f"population {name!r}",
                    expected=f"a calibration for this network at a speedup of {wish.speedup:g}",
                    todo="Leave calibration out, or calibrate(chip, target_of(network, placement, speedup))",
                )


def _measures(target: Target) -> dict[str, Float]:
    """What has to be as the network asks, the reset relative to the way from leak to threshold."""
    reset = (target.reset - target.leak) / (target.threshold - target.leak)
    return {"tau_mem": target.tau_mem, "tau_syn": target.tau_syn, "reset": reset, "refractory": target.refractory}


def _report(setup: Setup) -> None:
    """Warn of failed circuits in use, or refuse them: ``DoesNotFit``."""
    if not setup.failed:
        return
    placed, good = setup.placed, int(setup.calibration.success.sum())
    why = f"{placed} are needed, {good} are good, {placed - good} are short"
    if placed <= good:
        why = "no arrangement on good ones was found"
    what = f"{setup.failed} of {placed} circuits in use failed their calibration: {why}"
    if setup.wish.strict:
        raise DoesNotFit(what, where=repr(setup.wish.chip), todo="Take fewer neurons or another chip, or strict=False")
    warn(f"{setup.wish.chip!r}: {what}; their neurons may not spike.")


def _report_holds(network: Network, setup: Setup) -> None:
    """Warn of refractory times that are rounded to the clock of longer ones."""
    clock = int(setup.analog.refractory_clock[0])
    for name, circuit in setup.placement.circuit.items():
        if clock and network.populations[name].spiking:
            wanted = setup.calibration.target.refractory[circuit[:, 0]]
            made = transfer.refractory_seconds(refractory_code(wanted, clock), setup.analog.refractory_clock)
            worst = int(np.argmax(np.abs(made / wanted - 1)))
            old, new = float(wanted[worst]), float(made[worst])
            if abs(new / old - 1) > _ROUNDED:
                speedup = setup.wish.speedup
                warn(
                    f"{setup.wish.chip!r}: refractory times of population {name!r} are rounded, {speedup * old:.4g} s "
                    f"to {speedup * new:.4g} s ({1e9 * old:.0f} ns to {1e9 * new:.0f} ns on the chip): it has one "
                    "counter clock, as slow as the longest of them needs."
                )
