"""Bad input at the chip's edge: whole numbers that are none, no chips, neurons that no circuit can be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bad_input import DURATION, Item, check_error, drive
from chips import IDEAL, by_the_laws, configuration, events

from spikeloop import LIF, Network, OnChip, Population, Projection, Twin, feedforward, run
from spikeloop import errors as wrong
from spikeloop.chip.configuration import AddressedEvents, Configuration, Instruments
from spikeloop.chip.mismatch import Noise
from spikeloop.chip.twin import Imperfection

NONE = np.zeros(0, np.int64)


def sent(**given: Any) -> Callable[[], object]:
    return lambda: AddressedEvents(**{"cycle": NONE, "address": NONE, "start": np.array([0, 0]), **given})


def twin(**given: Any) -> Callable[[], object]:
    return lambda: Twin(**{"seed": 7, **given})


def on_chip(chip: Any = IDEAL, **given: Any) -> Callable[[], object]:
    return lambda: OnChip(chip, **given)


def emulated(cycles: Any) -> Callable[[], object]:
    return lambda: IDEAL.emulate(configuration(1), events([]), cycles)


def reached(**fields: float) -> Callable[[], object]:
    """A network whose second population is of such neurons, on a chip."""
    usual = LIF(10e-3, 5e-3)
    groups = {"input": Population(2), "fine": Population(2, usual), "odd": Population(3, usual)}
    for name, value in fields.items():
        getattr(groups["odd"], name).data = torch.tensor([getattr(usual, name)] * 2 + [value]).to(torch.float64)
    links = [Projection("input", "fine", torch.ones(2, 2)), Projection("fine", "odd", torch.ones(2, 3))]
    return lambda: run(Network(groups, links), drive(), DURATION, substrate=OnChip(IDEAL))


A_CHIP = "a chip, or a list of them"
ITEMS: dict[str, Item] = {
    "a broken trial": (sent(trial=1.5), wrong.WrongType, "addressed events: trial is 1.5", "a whole number"),
    "a trial's name": (sent(trial="one"), wrong.WrongType, "trial is a str", "a whole number"),
    "events that are a list": (sent(cycle=[1, 2]), wrong.WrongType, "cycle is a list", "an array of integers.*Round"),
    "nobody muted": (sent(muted=None), wrong.WrongType, "muted is a NoneType", "an array of integers"),
    "events out of order": (
        sent(cycle=np.array([5, 3]), address=np.zeros(2, int), start=np.array([0, 2])), wrong.OutOfRange,
        r"cycle\[1\] is before", "within a run.*lexsort",
    ),
    "runs that are counts": (sent(start=np.array([0, 0, 1])), wrong.OutOfRange, r"start\[2\] is 1", "0 to 0"),
    "broken weights": (lambda: Configuration(np.zeros((2, 256, 256))), wrong.WrongType, "weight is an array of float64",
                       "an array of integers.*Round it"),
    "no analog memory": (lambda: Configuration(analog=None), wrong.WrongType, "chip configuration: analog is a None",  # type: ignore[arg-type]
                         "an object of Analog"),
    "instruments' class": (lambda: Configuration(instruments=Instruments), wrong.WrongType,  # type: ignore[arg-type]
                           "instruments is the class Instruments", "an object of Instruments"),
    "three fast neurons": (lambda: Instruments(madc_circuit=np.arange(3)), wrong.OutOfRange, "names 3 circuits",
                           "at most 2.*another run"),
    "a broken duration": (emulated(100.7), wrong.WrongType, "Twin.emulate: cycles is 100.7", "a whole number"),
    "no duration": (emulated(0), wrong.OutOfRange, "Twin.emulate: cycles is 0", "at least 1"),
    "noise by name": (twin(noise="a"), wrong.WrongType, "Twin: noise is a str", "a factor from 0 to 100, or a Noise"),
    "noise's class": (twin(noise=Noise), wrong.WrongType, "noise is the class Noise", "or a Noise"),
    "noise as mismatch": (twin(mismatch=Noise()), wrong.WrongType, "mismatch is a Noise", "or a Mismatch"),
    "noise that is none": (twin(noise=float("nan")), wrong.OutOfRange, "noise is nan", "from 0 to 100"),
    "jitter by name": (twin(ideal={"jitter"}), wrong.WrongType, "ideal holds .jitter.", "LEAK.*from spikeloop"),
    "ideal as a name": (twin(ideal="jitter"), wrong.WrongType, "ideal is a str", "LEAK, RESET"),
    "one imperfection": (twin(ideal=Imperfection.JITTER), wrong.WrongType, "ideal is an Imperfection", "a set of LEAK"),
    "a number as a chip": (on_chip(7), wrong.WrongType, "OnChip: an int is no chip", A_CHIP),
    "a chip's class": (on_chip(Twin), wrong.WrongType, "the class Twin is no chip", rf"{A_CHIP}.*Twin\(\.\.\.\)"),
    "a chip's name": (on_chip("Twin(7)"), wrong.WrongType, "a str is no chip", A_CHIP),
    "chips and a number": (on_chip([IDEAL, 8]), wrong.WrongType, "an int is no chip", A_CHIP),
    "broken rows": (on_chip(rows_per_input=1.5), wrong.WrongType, "OnChip: rows_per_input is 1.5", "a whole number"),
    "broken runs": (on_chip(runs=2.5), wrong.WrongType, "OnChip: runs is 2.5", "a whole number"),
    "a speedup's name": (on_chip(speedup="x"), wrong.WrongType, "OnChip: speedup is a str", "a number"),
    "a speedup that is none": (on_chip(speedup=float("nan")), wrong.OutOfRange, "speedup is nan", "model seconds"),
    "a calibration's path": (on_chip(calibration="a.npz"), wrong.WrongType, "the calibration is a str", "or None"),
    "a slow membrane": (
        reached(tau_mem=0.1), wrong.OutOfRange,
        r"population 'odd': tau_mem is 0\.1 s \(0\.0001 s on the chip\)",
        r"0\.0005 to 0\.06 s \(5e-07 to 6e-05 s on the chip, at speedup 1000\).*another speedup",
    ),
    "a fast synapse": (
        reached(tau_syn=1e-4), wrong.OutOfRange, r"population 'odd': tau_syn is 0\.0001 s \(1e-07 s on",
        r"0\.0003 to 0\.03 s",
    ),
    "a long hold": (reached(refractory=0.04), wrong.OutOfRange, "refractory is 0.04 s", r"4e-05 to 0\.032 s"),
    "a low reset": (
        reached(reset=-1.0), wrong.OutOfRange, r"'odd': reset is -1 \(10 CADC steps on the chip\)",
        r"-0\.428571 to 1\.14286 \(50 to 160 CADC",
    ),
    "a leak above the threshold": (
        reached(leak=2.0), wrong.OutOfRange, "population 'odd': the leak is 2, the threshold 1", "a leak below the",
    ),
}  # fmt: skip


@pytest.mark.parametrize("item", ITEMS)
def test_an_error_says_what_where_and_what_to_do(item: str) -> None:
    check_error(*ITEMS[item])


def test_a_leak_above_the_threshold_is_refused_with_a_calibration_too() -> None:
    network = feedforward([2, 3], LIF(10e-3, 5e-3))
    substrate = OnChip(IDEAL, calibration=by_the_laws(IDEAL, network))
    run(network, drive(), DURATION, substrate=substrate)
    network.populations["output"].leak.data.fill_(1.5)
    with pytest.raises(wrong.OutOfRange, match=r"population 'output': the leak is 1\.5"):
        run(network, drive(), DURATION, substrate=substrate)
