"""Every contract of a chip is kept by the twin, and each breach of one is found and named."""

import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import pytest

from spikeloop import OnChip, Twin
from spikeloop.chip.configuration import AddressedEvents, Configuration, Readout
from spikeloop.chip.mac import ArrayPass
from spikeloop.chip.twin import EVERYTHING
from spikeloop.conformance import ConformanceError, check_chip, check_rule, check_substrate
from spikeloop.conformance import chip as chips
from spikeloop.conformance.cases import breaches
from spikeloop.conformance.multiplying import MULTIPLYING
from spikeloop.errors import DataError, SpikeloopError, Unsupported
from spikeloop.gradient.eventprop import EventProp
from spikeloop.gradient.surrogate import SuperSpike


@pytest.mark.parametrize(
    "twin", [Twin(7), Twin(3, noise=0), Twin(1, ideal=EVERYTHING), Twin(2, mismatch=2.0, noise=3.0)], ids=repr
)
def test_twins_keep_every_contract(twin: Twin) -> None:
    assert check_chip(twin) == ()


ON_CHIP = OnChip(Twin(7))


def test_a_twin_as_a_substrate_keeps_every_contract_of_one() -> None:
    (refused,) = check_substrate(ON_CHIP)
    assert refused.startswith("structured: projection input_to_hidden: delays of up to 0.001 s")


def test_rules_work_on_what_a_twin_observed() -> None:
    check_rule(EventProp(), ON_CHIP, tolerance=None)
    check_rule(SuperSpike(2e-3), ON_CHIP, tolerance=None, fields=["weight"])


Given = tuple[Configuration, AddressedEvents]
Change = Callable[[Configuration, AddressedEvents, Readout], Readout]


@dataclass(frozen=True)
class Spoilt:
    """A twin with something done to what comes, or to what goes."""

    readout: Change = lambda what, drive, out: out
    given: Callable[[Configuration, AddressedEvents], Given] = lambda what, drive: (what, drive)

    def emulate(self, what: Configuration, drive: AddressedEvents, cycles: int) -> Readout:
        return self.readout(what, drive, Twin(7, noise=0).emulate(*self.given(what, drive), cycles))

    def multiply(self, weights: np.ndarray, activations: np.ndarray) -> np.ndarray:
        raise Unsupported("it does not multiply")


class Trusting:
    """Takes whatever comes, at its face value."""

    def emulate(self, what: Configuration, drive: AddressedEvents, cycles: int) -> Readout:
        clipped = replace(what, weight=np.minimum(what.weight, 63))
        return Twin(7, noise=0).emulate(clipped, drive, max(cycles, 1))

    def multiply(self, weights: np.ndarray, activations: np.ndarray) -> np.ndarray:
        raise Unsupported("no")


class Forgetful:
    """Says that it remembers, and begins anew every time: with the membranes at rest."""

    remembers = True

    def emulate(
        self, what: Configuration, drive: AddressedEvents, cycles: int, start: object = None, keep: bool = False
    ) -> Readout:
        began = 0 if start is None else 1001
        moved = replace(drive, cycle=np.maximum(drive.cycle - began, 0))
        return Twin(7, noise=0).emulate(what, moved, cycles, keep=keep)


def spoilt(out: Readout, **changed: object) -> Readout:
    """A copy that nobody checks, as of a chip that has a readout of its own."""
    made = copy(out)
    for name, value in changed.items():
        object.__setattr__(made, name, value)
    return made


def field(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Spoilt:
    return Spoilt(lambda what, drive, out: spoilt(out, **{name: change(getattr(out, name))}))


def overwritten(what: Configuration, drive: AddressedEvents) -> tuple[Configuration, AddressedEvents]:
    what.weight[:] = 3
    return what, drive


def neighbours(what: Configuration, drive: AddressedEvents, out: Readout) -> Readout:
    """The second run and those after it see remains of the one before."""
    carried = np.clip(out.cadc.astype(int) + 20 * (np.arange(len(out.cadc)) > 0)[:, None, None], 0, 255)
    return replace(out, cadc=carried.astype(np.uint8))


def all_muted(what: Configuration, drive: AddressedEvents) -> tuple[Configuration, AddressedEvents]:
    return what, replace(drive, muted=np.tile(drive.muted.any(0), (len(drive), 1))) if len(drive.muted) else drive


def sends_all(what: Configuration, drive: AddressedEvents) -> tuple[Configuration, AddressedEvents]:
    return replace(what, routing=replace(what.routing, sends=np.ones(512, bool))), drive


def fires_all(what: Configuration, drive: AddressedEvents) -> tuple[Configuration, AddressedEvents]:
    return replace(what, analog=replace(what.analog, fires=np.ones(512, bool))), drive


def without_offsets(what: Configuration, drive: AddressedEvents) -> tuple[Configuration, AddressedEvents]:
    return replace(what, instruments=replace(what.instruments, cadc_offset=np.zeros(512, np.int16))), drive


def without_reference(what: Configuration, drive: AddressedEvents) -> tuple[Configuration, AddressedEvents]:
    return replace(what, instruments=replace(what.instruments, cadc_reference=np.array([-1]))), drive


def in_order(what: Configuration, drive: AddressedEvents) -> tuple[Configuration, AddressedEvents]:
    circuit = np.sort(what.instruments.cadc_circuit)
    return replace(what, instruments=replace(what.instruments, cadc_circuit=circuit)), drive


def strangely_addressed(what: Configuration, drive: AddressedEvents, out: Readout) -> Readout:
    return spoilt(out, address=out.address | 0x800)


def always_a_run(what: Configuration, drive: AddressedEvents, out: Readout) -> Readout:
    return out if len(drive) else spoilt(out, start=np.zeros(2, np.int64), lost=np.zeros(1, np.int64))


QUIET = Twin(7, noise=0)
calls = count()
BROKEN = {
    "floats": (field("cadc", lambda x: x.astype(np.float32)), "integers only", "cadc is of float32"),
    "lists": (field("lost", lambda x: x.tolist()), "integers only", "lost is of list"),
    "circuits before samples": (field("cadc", lambda x: x.swapaxes(1, 2)), "batch's shapes", r"cadc is \(3, 512"),
    "no fast samples": (field("madc", lambda x: x[:, :0]), "batch's shapes", "no samples of the fast ADC"),
    "every second sample": (field("cadc", lambda x: x[:, ::2]), "batch's shapes", "samples in 3000 cycles"),
    "unsorted": (field("cycle", lambda x: x[::-1]), "events are ascending", "not ascending"),
    "in nanoseconds": (field("cycle", lambda x: 8 * x), "events are ascending", "expected 0 to 2999"),
    "a start too early": (field("start", lambda x: x - 1), "events are ascending", "start is not"),
    "strange addresses": (Spoilt(strangely_addressed), "events are ascending", "no circuit was given"),
    "lost less than nothing": (field("lost", lambda x: x - 1), "events are ascending", "fewer than no"),
    "everybody sends": (Spoilt(given=sends_all), "shall not send", "shall send none"),
    "everybody fires": (Spoilt(given=fires_all), "shall not send", "comparator is off"),
    "nine bits": (field("cadc", lambda x: x.astype(np.int16) * 2), "converters stay", "expected 0 to 255"),
    "signed": (field("madc", lambda x: x.astype(np.int16) - 512), "converters stay", "madc from -"),
    "times of samples in seconds": (field("cadc_cycle", lambda x: x * 0), "converters stay", "250 cycles apart"),
    "samples begin late": (field("cadc_cycle", lambda x: x + 251), "converters stay", "in each period"),
    "no offsets": (Spoilt(given=without_offsets), "the instruments read", "an offset of 20 moves"),
    "no references": (Spoilt(given=without_reference), "the instruments read", "220 codes higher"),
    "other circuits": (Spoilt(given=in_order), "the instruments read", "others are read"),
    "never the same": (
        Spoilt(lambda w, d, out: replace(out, lost=out.lost + next(calls))),
        "the same trial",
        "lost differs",
    ),
    "remains of the run before": (Spoilt(neighbours), "a batch is a loop", "run 1 of 3"),
    "a run where there is none": (Spoilt(always_a_run), "an empty batch", "gives something"),
    "muting is ignored": (
        Spoilt(given=lambda w, d: (w, replace(d, muted=np.zeros((0, 512), bool)))),
        "muted circuits",
        "muted circuits send",
    ),
    "muting mutes all runs": (Spoilt(given=all_muted), "muted circuits", "muting run 0 changes run 2"),
    "weights overwritten": (Spoilt(given=overwritten), "left as they are", "weight was changed"),
    "a readout that is none": (field("cadc_cycle", lambda x: None), "survive the wire", "cadc_cycle|Error"),
    "clips in silence": (Trusting(), "out of range is refused", "weight = 64 is not refused"),
    "begins anew": (Forgetful(), "goes on where it was", "is not that of the run as a whole"),
    "runs of no time": (Trusting(), "out of range is refused", "a run of 0 cycles"),
}  # fmt: skip


@dataclass(frozen=True)
class Multiplying:
    """A chip that multiplies, with something done to what comes, or to what goes."""

    result: Callable[[np.ndarray], object] = lambda out: out
    given: Callable[..., tuple[np.ndarray, np.ndarray, ArrayPass]] = lambda *factors: factors
    chip: Twin = QUIET

    def multiply(self, weights: np.ndarray, activations: np.ndarray, how: ArrayPass = ArrayPass()) -> object:  # noqa: B008
        return self.result(self.chip.multiply(*self.given(weights, activations, how)))


def changed(**fields: object) -> Multiplying:
    return Multiplying(given=lambda w, a, how: (w, a, replace(how, **fields)))


def cleared(weights: np.ndarray, activations: np.ndarray, how: ArrayPass) -> tuple[np.ndarray, np.ndarray, ArrayPass]:
    out = weights.copy(), activations.copy(), how
    weights[:] = 0
    return out


def clipped(weights: np.ndarray, activations: np.ndarray, how: ArrayPass) -> tuple[np.ndarray, np.ndarray, ArrayPass]:
    rows = min(weights.shape[0], activations.shape[1])
    weights, activations = weights[:rows].clip(-63, 63), activations[:, :rows].clip(0, 31)
    row, column = (
        min(at, most - size) for at, most, size in zip((how.row, how.column), (128, 256), weights.shape, strict=True)
    )
    return weights.astype(np.int8), activations.astype(np.uint8), replace(how, row=row, column=column)


class Grumbling(Multiplying):
    """Refuses, and does not say what."""

    def multiply(self, weights: np.ndarray, activations: np.ndarray, how: ArrayPass = ArrayPass()) -> object:  # noqa: B008
        try:
            return super().multiply(weights, activations, how)
        except SpikeloopError as error:
            raise DataError("no") from error


BAD_AT_MULTIPLYING = {
    "products of 64 bits": (Multiplying(lambda out: out.astype(int)), "int8 vectors", "is int64"),
    "lists of them": (Multiplying(lambda out: out.tolist()), "int8 vectors", "is list"),
    "samples in columns": (Multiplying(lambda out: out.T), "int8 vectors", r"\(256, 3\)"),
    "never the same product": (
        Multiplying(lambda out: out ^ (next(calls) & 1)), "the same pass", "two times trial 0 on half 0 differ",
    ),
    "no signs": (Multiplying(np.abs), "products go with", "weights of 8, 0 and -8 give"),
    "far from nothing": (Multiplying(lambda out: out + 20), "products go with", r"weights of 0 give \d\d\."),
    "sent once": (changed(sends=1), "products go with", "sent twice: .* expected twice"),
    "rows reversed": (Multiplying(given=lambda w, a, how: (w[::-1], a, how)), "each row", "the rows of bit 0, samples"),
    "the batch reversed": (Multiplying(lambda out: out[::-1]), "each row", r"give -?\d\.\d, -?\d\.\d and \d\d\."),
    "columns reversed": (Multiplying(lambda out: out[:, ::-1]), "each column", r"of bit 7 move those by -?0\."),
    "the first corner alone": (changed(row=0, column=0), "lies within", "beyond the last row are not refused"),
    "no codes": (changed(columns=None), "shift and stretch", "an offset of 20 moves results by 0.0"),
    "one half alone": (changed(half=0), "codes belong", r"columns of half 1 moves the upper ones of half 1 by -?0\."),
    "always one draw": (replace(changed(trial=0), chip=Twin(3)), "another trial", "trials 0 and 1 do not"),
    "weights overwritten": (Multiplying(given=cleared), "left as they are", "weights were changed"),
    "clips in silence": (Multiplying(given=clipped), "or do not fit", "weights of 64 are not refused"),
    "grumbles": (Grumbling(), "or do not fit", "weights of -64 are refused without the word 'weights'"),
    "nothing comes": (Multiplying(lambda out: None), "survives the wire", "AttributeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_AT_MULTIPLYING)
def test_a_broken_multiplier_is_found_out(name: str) -> None:
    chip, contract, what = BAD_AT_MULTIPLYING[name]
    (text,) = [each for each in MULTIPLYING if contract in each]
    found = breaches({text: MULTIPLYING[text]}, chip, name)  # type: ignore[arg-type]
    assert any(re.search(what, breach.found) for breach in found), found


def test_every_contract_of_a_multiplier_is_broken_by_one_of_them() -> None:
    named = {contract for _, contract, _ in BAD_AT_MULTIPLYING.values()}
    assert not [text for text in MULTIPLYING if not any(contract in text for contract in named)]


def test_who_does_not_multiply_says_so_and_is_told_apart() -> None:
    assert check_chip(Spoilt(), deterministic=True) == ("multiply",)

    class Stumbling(Spoilt):
        def multiply(self, weights: np.ndarray, activations: np.ndarray, how: ArrayPass = ArrayPass()) -> np.ndarray:  # noqa: B008
            if how.half:
                raise Unsupported("only the upper half")
            return Twin(7).multiply(weights, activations, how)

    with pytest.raises(ConformanceError, match="Unsupported: only the upper half"):
        check_chip(Stumbling())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_chip_is_found_out(name: str) -> None:
    chip, contract, what = BROKEN[name]
    (text,) = [each for each in chips.CONTRACTS if contract in each]
    found = breaches({text: chips.CONTRACTS[text]}, chips.Bench(chip), name)  # type: ignore[arg-type]
    assert any(re.search(what, breach.found) for breach in found), found


def test_all_that_is_broken_is_listed() -> None:
    with pytest.raises(ConformanceError, match="is not refused") as caught:
        check_chip(Trusting())  # type: ignore[arg-type]
    assert len(caught.value.breaches) == 3


def test_every_contract_of_a_chip_is_broken_by_one_of_them() -> None:
    named = {contract for _, contract, _ in BROKEN.values()}
    assert not [text for text in chips.CONTRACTS if not any(contract in text for contract in named)]


def test_an_instrument_need_not_repeat_itself() -> None:
    class Noisy(Trusting):
        def emulate(self, what: Configuration, drive: AddressedEvents, cycles: int) -> Readout:
            return Twin(7).emulate(what, replace(drive, trial=next(calls)), cycles)

    check_chip(Noisy(), deterministic=False)  # type: ignore[arg-type]
