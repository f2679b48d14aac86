"""What a chip promises: an instrument that takes integers and gives integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spikeloop.chip.configuration import CIRCUITS, AddressedEvents, Chip, Configuration, Instruments, Readout
from spikeloop.chip.wire import from_bytes, to_bytes
from spikeloop.conformance.cases import ConformanceError, breaches
from spikeloop.conformance.multiplying import MULTIPLYING, REPEATS, can_multiply
from spikeloop.conformance.wiring import BATCH, CYCLES, PERIOD, WATCHED, circuit_of, configuration, drive, none, of_run
from spikeloop.errors import SpikeloopError

T = TypeVar("T")
READOUT = ("cycle", "address", "start", "lost", "cadc", "cadc_cycle", "madc")
_STEPS = 3.0  # CADC steps: more than noise can do to the mean over all channels
_EVENTS = 0.1  # relative: more than noise can do to the number of events of all circuits


def check_chip(chip: Chip, *, deterministic: bool = True) -> tuple[str, ...]:
    """Raise `ConformanceError` where ``chip`` breaks a contract; provisional.

    Every circuit is driven by the same events and watched; nothing is assumed about mismatch, calibration or noise.
    ``deterministic=False`` is for instruments that cannot repeat a trial. What the chip says that it does not do
    (``Unsupported``) is not tried, and returned: ``("multiply",)``, or nothing.
    """
    multiplies = can_multiply(chip)
    found = breaches(_wanted(CONTRACTS, deterministic), Bench(chip), "all circuits")
    if multiplies:
        found += breaches(_wanted(MULTIPLYING, deterministic), chip, "all columns")
    if found:
        raise ConformanceError(repr(chip), found)
    return () if multiplies else ("multiply",)


def _wanted(
    contracts: dict[str, Callable[[T], Iterator[str]]], repeats: bool
) -> dict[str, Callable[[T], Iterator[str]]]:
    return {n: look for n, look in contracts.items() if repeats or look not in (_repeats, REPEATS)}


@dataclass(frozen=True, eq=False)
class Bench:
    """A chip; by default every run is the same trial of the same configuration."""

    chip: Chip

    @cached_property
    def plain(self) -> Configuration:
        """The configuration that most runs have."""
        return configuration()

    def run(
        self, what: Configuration | None = None, events: AddressedEvents | None = None, cycles: int = CYCLES
    ) -> Readout:
        """What the chip makes of it."""
        return self.chip.emulate(what or self.plain, drive() if events is None else events, cycles)


def differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """The names of fields that are not the same in both, nested ones included."""
    for each in fields(one):
        a, b = getattr(one, each.name), getattr(other, each.name)
        if is_dataclass(a):
            yield from differences(a, b, f"{name}{each.name}.")
        elif not np.array_equal(np.asarray(a), np.asarray(b)):
            yield name + each.name


def _integers(bench: Bench) -> Iterator[str]:
    out = bench.run()
    for name in READOUT:
        value = getattr(out, name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            yield f"{name} is of {value.dtype if isinstance(value, np.ndarray) else type(value).__name__}"


def _shapes(bench: Bench) -> Iterator[str]:
    out = bench.run()
    samples, fast = (getattr(out, name).shape[1:2] or (0,) for name in ("cadc", "madc"))
    expected = {
        "start": (BATCH + 1,), "lost": (BATCH,), "address": out.cycle.shape, "cadc": (BATCH, *samples, CIRCUITS),
        "cadc_cycle": (BATCH, *samples), "madc": (BATCH, *fast, len(WATCHED)),
    }  # fmt: skip
    for name, shape in expected.items():
        if getattr(out, name).shape != shape:
            yield f"{name} is {getattr(out, name).shape}, expected {shape}"
    if not CYCLES // PERIOD - 1 <= samples[0] <= CYCLES // PERIOD + 1:
        yield f"{samples[0]} samples in {CYCLES} cycles of a period of {PERIOD}"
    if not fast[0]:
        yield "no samples of the fast ADC"


def _events(bench: Bench) -> Iterator[str]:
    what, out = bench.plain, bench.run()
    if out.start[0] != 0 or out.start[-1] != len(out.cycle) or (np.diff(out.start) < 0).any():
        yield "start is not ascending from 0 to the number of events"
        return
    if len(out.cycle) and (out.cycle.min() < 0 or out.cycle.max() >= CYCLES):
        yield f"time stamps from {out.cycle.min()} to {out.cycle.max()}, expected 0 to {CYCLES - 1}"
    for run in range(BATCH):
        if (np.diff(out.cycle[of_run(out, run)].astype(np.int64)) < 0).any():
            yield f"time stamps of run {run} are not ascending"
    if not set(np.unique(out.address).tolist()) <= {int(a) for a in circuit_of(what)}:
        yield "events carry addresses that no circuit was given"
    if (out.lost < 0).any():
        yield "fewer than no events were lost"


def _sends(bench: Bench) -> Iterator[str]:
    what = bench.plain
    sends = what.routing.sends.copy()
    sends[::2] = False
    off = replace(what, routing=replace(what.routing, sends=sends))
    silent = replace(what, analog=replace(what.analog, fires=np.zeros(CIRCUITS, bool)))
    known = circuit_of(what)
    if any(known[address] % 2 == 0 for address in bench.run(off).address.tolist() if address in known):
        yield "circuits send events that shall send none"
    if len(bench.run(silent).cycle):
        yield "circuits spike whose comparator is off"


def _converters(bench: Bench) -> Iterator[str]:
    out = bench.run()
    for name, most in (("cadc", 255), ("madc", 1023)):
        value = getattr(out, name)
        if value.size and (value.min() < 0 or value.max() > most):
            yield f"{name} from {value.min()} to {value.max()}, expected 0 to {most}"
    when = out.cadc_cycle.astype(np.int64)
    if when.size and (when.min() < 0 or when.max() >= CYCLES or when[:, 0].max() >= PERIOD):
        yield f"samples from cycle {when.min()} to {when.max()}, expected one in each period of {PERIOD} from 0 on"
    if (np.abs(np.diff(when, axis=1) - PERIOD) > 1).any():
        yield f"samples that are not {PERIOD} cycles apart"


def _instruments(bench: Bench) -> Iterator[str]:
    """References and offsets are seen by the column ADC; what is not watched is not read."""
    low, high = (_reading(bench, code, 0) for code in (200, 420))
    if not high - low > 10 * _STEPS:
        yield f"a potential 220 codes higher reads {high - low:.1f} steps more"
    moved = _reading(bench, 310, 20) - _reading(bench, 310, 0)
    if abs(moved - 20) > _STEPS:
        yield f"an offset of 20 moves readings by {moved:.1f}"
    few = replace(bench.plain.instruments, cadc_circuit=np.array([9, 4], np.int16), madc_circuit=np.zeros(0, np.int16))
    out, all_of_them = bench.run(replace(bench.plain, instruments=few)), bench.run()
    if out.cadc.shape[2:] != (2,) or out.madc.size:
        yield f"two circuits are watched, cadc is {out.cadc.shape}, madc {out.madc.shape}"
    elif np.abs(_means(out) - _means(all_of_them)[[9, 4]]).max() > 3 * _STEPS:
        yield "circuits 9 and 4 are watched, others are read"


def _means(out: Readout) -> NDArray[np.float64]:
    """(C,) over runs and samples."""
    return out.cadc.astype(np.float64).mean((0, 1))


def _reading(bench: Bench, code: int, offset: int) -> float:
    """The mean reading of all channels at a reference potential."""
    instruments = replace(
        bench.plain.instruments,
        cadc_reference=np.array([code], np.int16),
        cadc_offset=np.full(CIRCUITS, offset, np.int16),
    )
    return float(_means(bench.run(replace(bench.plain, instruments=instruments))).mean())


def _repeats(bench: Bench) -> Iterator[str]:
    one, two = bench.run(), bench.run()
    yield from (f"{name} differs between two runs of one trial" for name in differences(one, two))


def _batch(bench: Bench) -> Iterator[str]:
    """Exactly where a chip shows no noise; else as far as noise lets means over all circuits say."""
    batch = drive()
    together, twice = bench.run(), bench.run(events=drive([1, 1]))
    one, two = (twice.cycle[of_run(twice, run)] for run in range(2))
    exact = np.array_equal(one, two) and np.array_equal(twice.cadc[0], twice.cadc[1])
    for run in range(BATCH):
        alone = bench.run(events=drive([run]))
        mine = together.cycle[of_run(together, run)]
        if exact and not (np.array_equal(mine, alone.cycle) and np.array_equal(together.cadc[run], alone.cadc[0])):
            yield f"run {run} of {len(batch)} is another when it is alone"
        elif abs(len(mine) - len(alone.cycle)) > 5 + _EVENTS * max(len(mine), len(alone.cycle)):
            yield f"run {run} of {len(batch)} has {len(mine)} events, {len(alone.cycle)} when it is alone"
        elif abs(float(together.cadc[run].mean()) - float(alone.cadc[0].mean())) > _STEPS:
            yield f"run {run} of {len(batch)} has other membranes when it is alone"


def _empty(bench: Bench) -> Iterator[str]:
    out = bench.run(events=none(0))
    if len(out.start) != 1 or len(out.cycle) or out.cadc.shape[0] or len(out.lost):
        yield "an empty batch gives something"
    if len(bench.run(events=none(2)).start) != 3:
        yield "two runs without events are not two runs"
    blind = bench.run(replace(bench.plain, instruments=Instruments()))
    if blind.cadc.size or blind.madc.size:
        yield "samples, where nothing is watched"


def _muted(bench: Bench) -> Iterator[str]:
    whole, known = bench.run(), circuit_of(bench.plain)
    muted = np.zeros((BATCH, CIRCUITS), bool)
    muted[0] = True
    out = bench.run(events=replace(drive(), muted=muted))
    if len(out.cycle[of_run(out, 0)]):
        yield "muted circuits send events"
    last = [len(each.cycle[of_run(each, BATCH - 1)]) for each in (whole, out)]
    if abs(last[0] - last[1]) > 5 + _EVENTS * last[0]:
        yield f"muting run 0 changes run {BATCH - 1}: {last[1]} events instead of {last[0]}"
    if not any(known.get(address) is not None for address in whole.address.tolist()):
        yield "no circuit sends events, however strongly it is driven"


def _leaves_alone(bench: Bench) -> Iterator[str]:
    what, events = configuration(), drive()
    bench.run(what, events)
    for name in (*differences(what, configuration()), *differences(events, drive())):
        yield f"{name} was changed in place"


def _wire(bench: Bench) -> Iterator[str]:
    what, events = configuration(), drive()
    out = bench.run(what, events)
    values: list[tuple[type[Any], Any]] = [(Configuration, what), (AddressedEvents, events), (Readout, out)]
    for kind, value in values:
        back = from_bytes(kind, to_bytes(value))
        yield from (f"{kind.__name__}.{name} changes as bytes" for name in differences(value, back))
    sent = from_bytes(Configuration, to_bytes(what)), from_bytes(AddressedEvents, to_bytes(events))
    if len(bench.run(*sent).start) != BATCH + 1:
        yield "what came as bytes is not run"


def _refuses(bench: Bench) -> Iterator[str]:
    """Runs of no time; and numbers that got past the checks of their types."""
    for cycles in (0, -5):
        if not _raises(lambda cycles=cycles: bench.run(cycles=cycles)):
            yield f"a run of {cycles} cycles is not refused"
    for path, value in {"weight": 64, "analog.gain": 1023, "routing.label": 64, "instruments.cadc_period": 5}.items():
        what = configuration()
        owner, _, name = path.rpartition(".")
        part = getattr(what, owner) if owner else what
        getattr(part, name).reshape(-1)[0] = value
        if not _raises(lambda what=what: bench.run(what)):
            yield f"{path} = {value} is not refused"


def _raises(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except SpikeloopError:
        return True
    return False


def _goes_on(bench: Bench) -> Iterator[str]:
    """Of chips that say that they remember: a run in two parts is the run as a whole."""
    if not getattr(bench.chip, "remembers", False):
        return
    events, cut = drive(), CYCLES // 3 + 1
    parts: list[Readout] = []
    for keep, cycles in ((events.cycle < cut, cut), (events.cycle >= cut, CYCLES - cut)):
        start = np.append(0, np.cumsum(keep))[events.start]
        part = replace(events, cycle=events.cycle[keep], address=events.address[keep], start=start)
        state = parts[-1].state if parts else None
        parts.append(bench.chip.emulate(bench.plain, part, cycles, start=state, keep=True))  # type: ignore[call-arg]
    whole = bench.chip.emulate(bench.plain, events, CYCLES, keep=True)  # type: ignore[call-arg]
    for run in range(BATCH):
        for name in ("cycle", "address"):
            found = np.concatenate([getattr(part, name)[of_run(part, run)] for part in parts])
            if not np.array_equal(found, getattr(whole, name)[of_run(whole, run)]):
                yield f"{name} of run {run} in two parts is not that of the run as a whole"
    for name in ("cadc", "cadc_cycle", "madc"):
        if not np.array_equal(np.concatenate([getattr(part, name) for part in parts], 1), getattr(whole, name)):
            yield f"{name} in two parts is not that of the run as a whole"


CONTRACTS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "a readout holds integers only": _integers,
    "a readout has the batch's shapes": _shapes,
    "events are ascending within the run, with addresses of the configuration": _events,
    "circuits that shall not send or spike are silent": _sends,
    "converters stay in their ranges and sample at their period": _converters,
    "the instruments read what they are set to": _instruments,
    "the same trial gives the same readout": _repeats,
    "a batch is a loop over its runs": _batch,
    "an empty batch, runs without events and a blind run are legal": _empty,
    "muted circuits send nothing, in their run alone": _muted,
    "configuration and drive are left as they are": _leaves_alone,
    "configuration, drive and readout survive the wire": _wire,
    "what is out of range is refused": _refuses,
    "a chip that remembers goes on where it was, bit for bit": _goes_on,
}
"""What is checked, by name."""
