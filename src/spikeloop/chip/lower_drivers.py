"""Short-term plasticity from model numbers to the codes of synapse drivers, and what it makes of weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spikeloop._warn import warn
from spikeloop.chip.drivers import (
    RECOVERY_TIME,
    STP_CODE_MAX,
    UTILISATION_STEP,
    Drivers,
    recovery_time,
    utilisation,
)
from spikeloop.chip.geometry import COLUMNS
from spikeloop.chip.mapping import Placement
from spikeloop.errors import OutOfRange, Unsupported
from spikeloop.network import Network
from spikeloop.projection import Projection

Float = NDArray[np.float64]
Codes = NDArray[np.uint8]
_SLACK = 0.5  # of a code
_ROUNDED = 0.10  # of a time or a fraction: more is worth a warning


def numbers(projection: Projection, size: int) -> tuple[Float, Float]:
    """(S,) each: U and seconds of recovery of every source unit."""
    assert projection.short_term is not None
    used, tau = (np.broadcast_to(projection.short_term.each(name), size) for name in ("utilisation", "tau"))
    return used.astype(np.float64), tau.astype(np.float64)


def key_of(projection: Projection) -> object:
    """What of its short-term plasticity makes another setup."""
    given = projection.short_term
    return None if given is None else (given.each("utilisation"), given.each("tau"), given.facilitating)


def share(projection: Projection, size: int) -> Float | float:
    """(S, 1): a weight on the array over the model's, of drivers that make pulses as long as the first one is.

    A depressing event of the model has the size U x, and a pulse the length (1 - U) x, with U of its code.
    """
    given = projection.short_term
    if given is None or given.facilitating:
        return 1.0
    used, _ = numbers(projection, size)
    made: Float = used / (1 - utilisation(_utilisation_code(used)))
    return made[:, None]


def check_drivers(network: Network, speedup: float) -> None:
    """Raise where a driver cannot be set to what a projection asks, or a rule would change what it scales."""
    rules = {name for program in network.programs.values() for name in program.projections}
    for name, projection in _plastic(network):
        assert projection.short_term is not None
        used, tau = numbers(projection, network.populations[projection.source].size)
        _check("utilisation", used, (UTILISATION_STEP, UTILISATION_STEP * (STP_CODE_MAX + 1)), name, (1.0, ""))
        longest = RECOVERY_TIME * 2.0**STP_CODE_MAX
        _check("tau", tau / speedup, (RECOVERY_TIME / (STP_CODE_MAX + 1), longest), name, (speedup, " s"))
        if name in rules and not projection.short_term.facilitating:
            raise Unsupported(
                "it is depressed, and a rule changes its weights", where=f"projection {name}",
                expected="one of the two on a chip: the processor's codes count pulses of whole length",
                todo="Leave short_term or the rule out, or run it on Ideal",
            )  # fmt: skip


def nominal_drivers(network: Network, placement: Placement, speedup: float) -> Drivers | None:
    """The codes of the laws; None where nothing is plastic. Warns of what is rounded by more than 10 %."""
    check_drivers(network, speedup)
    made, plastic = Drivers(), list(_plastic(network))
    if not plastic:
        return None
    asked = [(name, p, *numbers(p, network.populations[p.source].size)) for name, p in plastic]
    clock = _clock(np.concatenate([tau for *_, tau in asked]) / speedup)
    codes = {name: np.array(getattr(made, name)) for name in ("plastic", "facilitating", "utilisation", "recovery")}
    for name, projection, used, tau in asked:
        assert projection.short_term is not None
        driver = driver_of(placement.synapse[name])  # (R, S, T)
        found = _utilisation_code(used), _recovery_code(tau / speedup, clock)
        _report(name, "utilisation", used, utilisation(found[0]), "")
        _report(name, "tau", tau, recovery_time(found[1], clock) * speedup, " s")
        codes["plastic"].reshape(-1)[driver] = True
        codes["facilitating"].reshape(-1)[driver] = projection.short_term.facilitating
        codes["utilisation"].reshape(-1)[driver] = found[0][None, :, None]
        codes["recovery"].reshape(-1)[driver] = found[1][None, :, None]
    return Drivers(**codes, recovery_clock=np.array([clock], np.uint8))


def driver_of(synapse: NDArray[np.integer]) -> NDArray[np.int64]:
    """The driver, flat in half and driver, of each synapse, flat in half, row and column."""
    return synapse.astype(np.int64) // (2 * COLUMNS)


def _plastic(network: Network) -> Iterator[tuple[str, Projection]]:
    return ((name, each) for name, each in network.projections.items() if each.short_term is not None)


def _utilisation_code(used: Float) -> Codes:
    return np.clip(np.rint(used / UTILISATION_STEP - 1), 0, STP_CODE_MAX).astype(np.uint8)


def _recovery_code(tau: Float, clock: int) -> Codes:
    return np.clip(np.rint(RECOVERY_TIME * 2.0**clock / tau - 1), 0, STP_CODE_MAX).astype(np.uint8)


def _clock(tau: Float) -> int:
    """The clock that the drivers share: the one with which the worst of the times, chip seconds, is nearest."""
    off = [np.abs(np.log(recovery_time(_recovery_code(tau, c), c) / tau)).max() for c in range(STP_CODE_MAX + 1)]
    return int(np.argmin(off))


def _check(what: str, value: Float, reach: tuple[float, float], name: str, unit: tuple[float, str]) -> None:
    low, high = reach
    scale, sign = unit
    wrong = np.flatnonzero((value < low * (1 - _SLACK)) | (value > high * (1 + _SLACK / STP_CODE_MAX)))
    if len(wrong):
        raise OutOfRange(
            f"{what} is {value[wrong[0]] * scale:g}{sign}", where=f"projection {name}, short_term",
            expected=f"{low * scale:g} to {high * scale:g}{sign}: what a chip's drivers can be set to",
            todo="Choose another one" + (", or another speedup," if sign else "") + " or run it on Ideal",
        )  # fmt: skip


def _report(name: str, what: str, asked: Float, made: Float, unit: str) -> None:
    worst = int(np.argmax(np.abs(np.log(made / asked))))
    if abs(made[worst] / asked[worst] - 1) > _ROUNDED:
        warn(f"projection {name}: its short-term {what} is rounded from {asked[worst]:.4g}{unit} to "
             f"{made[worst]:.4g}{unit}: a driver has 4 bits for it"
             + (", and all drivers one clock." if unit else "."))  # fmt: skip
