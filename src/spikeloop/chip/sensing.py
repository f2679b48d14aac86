"""Which correlation windows the sensors of projections have: codes by quadrant of a chip, and trims by synapse.

A quadrant has one code for what a pair stores, one for how a spike is forgotten. A trim makes a third, two thirds or
four thirds of it: so projections onto the same quadrant may differ by these ratios, others lie on other quadrants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip import correlation
from spikeloop.chip.correlation import NEUTRAL, TRIM_MAX, Sensors
from spikeloop.chip.geometry import CODE_MAX, COLUMNS, HALVES, ROWS
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.plasticity.rule import Correlation

QUADRANTS = 4
_NEAR = 0.01  # relative: a window that codes and trims come so near to is made
Setting = tuple[float, float]
"""Fraction of the full range that a pair without delay adds; 1 / s that a spike is forgotten with."""


def settings(network: Network) -> dict[str, Setting]:
    """By projection. Raises ``Unsupported`` where causal and anticausal windows differ."""
    found: dict[str, Setting] = {}
    for program in network.programs.values():
        for name, plastic in program.projections.items():
            if plastic.sensor is not None:
                amplitude, tau = (_alike(name, what, plastic.sensor) for what in ("amplitudes", "taus"))
                found[name] = amplitude, 1 / tau
    return found


def _alike(name: str, what: str, sensor: Correlation) -> float:
    causal, anticausal = getattr(sensor, what)
    if causal != anticausal:
        raise Unsupported(f"causal and anticausal {what} differ", where=f"projection {name}, sensor",
                          expected="one number: the currents and trims of a synapse are those of both its sensors",
                          todo="Take one number, and let the kernel weigh the two")  # fmt: skip
    return float(causal)


def trimmed(values: Iterable[float]) -> tuple[float, dict[float, int]] | None:
    """A value for a quadrant, and the trim that makes each of ``values`` of it; None where none does."""
    wanted = sorted(set(values), reverse=True)
    for first in (NEUTRAL, TRIM_MAX, *range(NEUTRAL - 1, -1, -1)):
        base = wanted[0] / float(correlation.trimmed(np.array(first)))
        trims = {value: _trim(value / base) for value in wanted}
        if all(trim is not None for trim in trims.values()):
            return base, {value: trim for value, trim in trims.items() if trim is not None}
    return None


def _trim(ratio: float) -> int | None:
    off = np.abs(correlation.trimmed(np.arange(TRIM_MAX + 1)) / ratio - 1)
    return int(off.argmin()) if off.min() < _NEAR else None


def _together(some: Iterable[Setting]) -> bool:
    """Whether one quadrant can have all of them."""
    return all(trimmed(values) is not None for values in zip(*some, strict=True))


def classes(network: Network) -> dict[str, int]:
    """By target population, a number; those of one number can be in one quadrant. Empty where all can.

    Raises ``Unsupported`` where one population, or a chip, would need more windows than there are.
    """
    wanted: dict[str, dict[str, Setting]] = {}
    for name, setting in settings(network).items():
        wanted.setdefault(network.projections[name].target, {})[name] = setting
    known: list[set[Setting]] = []
    found: dict[str, int] = {}
    for target, of in wanted.items():
        if not _together(of.values()):
            raise Unsupported(
                f"its correlation sensors are others than those of {next(iter(of))}",
                where=f"projection {list(of)[-1]}",
                expected=f"amplitudes and time constants of projections onto {target!r} in ratios of 1, 2, 3 or 4: "
                "what a synapse's trims make of its quadrant's currents",
                todo="Choose such ratios, or another target population",
            )  # fmt: skip
        place = next((k for k, each in enumerate(known) if _together([*each, *of.values()])), len(known))
        if place == len(known):
            known.append(set())
        known[place] |= set(of.values())
        found[target] = place
    if len(known) > QUADRANTS:
        raise Unsupported(f"projections onto {', '.join(map(repr, found))} have {len(known)} kinds of sensors",
                          where="the network", expected=f"at most {QUADRANTS} that trims do not make of each other: "
                          "one for each quadrant of a chip", todo="Let some of them be alike")  # fmt: skip
    return found if len(known) > 1 else {}


def zones(network: Network, circuits: Mapping[str, int]) -> dict[str, NDArray[np.bool_]]:
    """By population, (4,): the quadrants it has to lie on; those that may lie anywhere are left out.

    circuits: by population, how many each neuron takes; several are in both halves.
    """
    of = classes(network)
    if not of:
        return {}
    whole = any(circuits[name] > 1 for name in of)
    areas = [(0, 2), (1, 3)] if whole else [(0,), (1,), (2,), (3,)]
    kinds = max(of.values()) + 1
    if kinds > len(areas):
        raise Unsupported(f"{kinds} kinds of sensors are wanted for neurons of several circuits", where="the network",
                          expected="two: such neurons lie in both halves of a chip",
                          todo="Let some of them be alike, or give their neurons fewer inputs")  # fmt: skip
    need = [sum(circuits[n] * network.populations[n].size for n in of if of[n] == kind) for kind in range(kinds)]
    share = [1] * kinds
    for _ in range(len(areas) - kinds):
        share[int(np.argmax([each / own for each, own in zip(need, share, strict=True)]))] += 1
    owner = np.repeat(np.arange(kinds), share)
    found: dict[str, NDArray[np.bool_]] = {}
    for name, kind in of.items():
        found[name] = np.zeros(QUADRANTS, bool)
        for area in np.flatnonzero(owner == kind):
            found[name][list(areas[area])] = True
    return found


def sensors_of(network: Network, synapse: Mapping[str, NDArray[np.int64]], speedup: float) -> Sensors | None:
    """The sensors' codes and trims; synapse: by projection, as in `Placement`. None where nobody reads any."""
    wanted = settings(network)
    if not wanted:
        return None
    for name, (amplitude, rate) in wanted.items():
        _reached(name, "amplitude", amplitude * correlation.FULL, correlation.REACH[0], 1 / correlation.FULL, "")
        _reached(name, "tau", 1 / rate / speedup, correlation.REACH[1], speedup, " s")
    quadrant = {name: _quadrants(synapse[name]) for name in wanted}
    trims = [np.full((HALVES, ROWS, COLUMNS), NEUTRAL, np.uint8) for _ in range(2)]
    codes = np.zeros((2, QUADRANTS), np.int16)
    steps = (correlation.AMPLITUDE_STEPS / correlation.FULL, 1 / (correlation.TIME_CODE * speedup))
    for which, unit in enumerate(steps):
        for place in range(QUADRANTS):
            here = [name for name in wanted if (quadrant[name] == place).any()] or [next(iter(wanted))]
            made = trimmed(wanted[name][which] for name in here)
            assert made is not None  # `classes` said so, and `zones` put them here
            codes[which, place] = np.clip(np.rint(made[0] / unit), 1, CODE_MAX)
            for name in here:
                flat = synapse[name][quadrant[name] == place]
                for rows in (flat, flat + COLUMNS):
                    trims[which].reshape(-1)[rows] = made[1][wanted[name][which]]
    return Sensors(codes[0], codes[1], trims[0], trims[1])


def _quadrants(synapse: NDArray[np.int64]) -> NDArray[np.int64]:
    return synapse // (ROWS * COLUMNS) * 2 + synapse % COLUMNS // (COLUMNS // 2)


def _reached(name: str, what: str, value: float, limits: tuple[float, float], unit: float, name_of_unit: str) -> None:
    low, high = limits
    if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
        raise OutOfRange(
            f"the {what} is {value * unit:.4g}{name_of_unit}", where=f"projection {name}, sensor",
            expected=f"{low * unit:.4g} to {high * unit:.4g}{name_of_unit}: what the chip reaches",
            todo="Choose another one, or another speedup",
        )  # fmt: skip
