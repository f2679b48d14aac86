"""The chip's edge: integers in ranges that errors name, and bytes that come back as they went."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from spikeloop.chip import configuration as c
from spikeloop.chip.configuration import AddressedEvents, Analog, Configuration, Instruments, Readout, Routing
from spikeloop.chip.wire import from_bytes, to_bytes
from spikeloop.errors import DataError, OutOfRange, ShapeMismatch, WrongType


def changed(value, name, index, to):
    """A copy of the dataclass ``value`` with one number of the array ``name`` changed."""
    array = getattr(value, name).astype(np.int64)
    array[index] = to
    return replace(value, **{name: array})


OUT_OF_RANGE = [
    (Configuration(), "weight", (1, 2, 3), 64, "0 to 63"),
    (Configuration(), "weight", (0, 0, 0), -1, "0 to 63"),
    (Routing(), "label", (1, 255, 255), 64, "0 to 63"),
    (Routing(), "row_sign", (0, 7), 2, "-1 to 1"),
    (Routing(), "driver_mask", (1, 127), 32, "0 to 31"),
    (Routing(), "link_mask", (3, 7), 0x4000, "0 to 16383"),
    (Routing(), "output_target", (7, 1), 0x4000, "0 to 16383"),
    (Routing(), "neuron_label", (511,), 256, "0 to 255"),
    (Routing(), "head", (3,), 512, "0 to 511"),
    (Analog(), "leak", (5,), 1023, "0 to 1022"),
    (Analog(), "gain", (1, 5), 1023, "0 to 1022"),
    (Analog(), "capacitance", (5,), 64, "0 to 63"),
    (Analog(), "refractory", (5,), 256, "0 to 255"),
    (Analog(), "synapse_dac", (3,), -1, "0 to 1022"),
    (Instruments(), "cadc_offset", (0,), 128, "-128 to 127"),
    (Instruments(), "cadc_reference", (0,), 1023, "-1 to 1022"),
]


@pytest.mark.parametrize(("value", "name", "index", "to", "limits"), OUT_OF_RANGE)
def test_a_code_out_of_range_is_named_with_its_place_and_range(value, name, index, to, limits):
    with pytest.raises(OutOfRange) as error:
        changed(value, name, index, to)
    place = ", ".join(map(str, index))
    assert f"{name}[{place}] is {to}" in str(error.value)
    assert limits in str(error.value)


def test_no_float_crosses_the_edge():
    with pytest.raises(WrongType, match="weight is an array of float64"):
        Configuration(weight=np.zeros((2, 256, 256)))
    with pytest.raises(ShapeMismatch, match=r"weight is \(2, 256\)"):
        Configuration(weight=np.zeros((2, 256), np.uint8))


def test_the_fast_adc_samples_two_neurons_at_most():
    with pytest.raises(OutOfRange, match="madc_circuit names 3"):
        Instruments(madc_circuit=np.arange(3))


def test_the_fast_adc_does_not_sample_a_neuron_twice():
    with pytest.raises(OutOfRange, match="madc_circuit names circuit 3 twice"):
        Instruments(madc_circuit=np.array([3, 3]))


def test_the_column_adc_has_a_fastest_period():
    with pytest.raises(OutOfRange, match="cadc_period is 100"):
        Instruments(cadc_period=np.array([100]))


def test_joined_circuits_lie_side_by_side():
    head = np.arange(c.CIRCUITS)
    head[[1, 256, 257]] = 0
    Routing(head=head)
    with pytest.raises(OutOfRange, match="its own head"):
        Routing(head=np.where(np.arange(c.CIRCUITS) == 2, 1, head))
    head[5] = 0
    with pytest.raises(OutOfRange, match="side by side"):
        Routing(head=head)


@pytest.mark.parametrize(
    ("cycle", "address", "start", "message"),
    [
        ([5, 3], [0, 0], [0, 2], r"cycle\[1\] is before"),
        ([-1], [0], [0, 1], r"cycle\[0\] is -1"),
        ([1], [1 << 16], [0, 1], r"address\[0\] is 65536"),
        ([1, 2], [0, 0], [0, 1], "start is not ascending"),
    ],
)
def test_bad_events_are_refused(cycle, address, start, message):
    with pytest.raises(OutOfRange, match=message):
        AddressedEvents(np.array(cycle), np.array(address), np.array(start))


READOUT = Readout(
    np.array([3, 5, 4]), np.array([7, 8, 9]), np.array([0, 2, 3]), np.array([0, 1]),
    np.full((2, 4, 5), 80, np.uint8), np.zeros((2, 4), np.int64), np.full((2, 6, 1), 500, np.uint16),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("cycle", np.array([1.5, 2.0, 3.0]), WrongType, "cycle is an array of float64. Expected: an array of integers"),
        ("cycle", [3, 5, 4], WrongType, "cycle is a list"),
        ("cycle", np.array([5, 3, 4]), OutOfRange, r"cycle\[1\] is before"),
        ("cycle", np.array([-3, 5, 4]), OutOfRange, r"cycle\[0\] is -3"),
        ("address", np.array([7, 8]), ShapeMismatch, r"address is \(2,\). Expected: \(3,\)"),
        ("address", np.array([7, 8, 0x800]), OutOfRange, r"address\[2\] is 2048. Expected: 0 to 2047"),
        ("start", np.array([0, 2, 4]), OutOfRange, r"start\[2\] is 4"),
        ("start", np.array([1, 2, 3]), OutOfRange, "start is not ascending from 0"),
        ("lost", np.array([0, -1]), OutOfRange, r"lost\[1\] is -1"),
        ("lost", None, WrongType, "lost is a NoneType"),
        ("cadc", np.full((2, 4, 5), 256), OutOfRange, r"cadc\[0, 0, 0\] is 256. Expected: 0 to 255"),
        ("cadc", np.full((2, 4), 80), ShapeMismatch, r"cadc is \(2, 4\). Expected: \(2, 4, 0\)"),
        ("cadc", np.full((3, 4, 5), 80), ShapeMismatch, r"cadc is \(3, 4, 5\). Expected: \(2, 4, 5\)"),
        ("cadc_cycle", np.zeros((2, 3), int), ShapeMismatch, r"cadc_cycle is \(2, 3\). Expected: \(2, 4\)"),
        ("madc", np.full((2, 6, 1), 1024), OutOfRange, r"madc\[0, 0, 0\] is 1024. Expected: 0 to 1023"),
    ],
)
def test_a_readout_that_is_none_is_refused(name, value, error, message):
    with pytest.raises(error, match=f"chip readout: {message}"):
        replace(READOUT, **{name: value})


def test_runs_of_a_batch_begin_anew():
    assert len(AddressedEvents(np.array([7, 9, 3]), np.zeros(3, int), np.array([0, 2, 2, 3]))) == 3


def arrays(value):
    """All arrays of nested dataclasses, by name."""
    for each in fields(value):
        part = getattr(value, each.name)
        if is_dataclass(part):
            yield from ((f"{each.name}.{name}", array) for name, array in arrays(part))
        else:
            yield each.name, np.asarray(part)


def test_everything_comes_back_from_bytes():
    random = np.random.default_rng(0)
    instruments = Instruments(np.array([300]), np.arange(7), madc_circuit=np.array([3, 9]))
    configuration = Configuration(random.integers(0, 64, (2, 256, 256), np.uint8), instruments=instruments)
    muted = random.integers(0, 2, (2, 512)).astype(bool)
    drive = AddressedEvents(np.array([1, 2, 0]), np.array([5, 6, 7]), np.array([0, 2, 3]), muted, trial=11)
    samples = (random.integers(0, 9, (2, k, 3), np.uint8) for k in (5, 7))
    readout = Readout(
        np.array([1, 5, 4]), random.integers(0, 9, 3), np.array([0, 2, 3]), np.array([0, 1]),
        next(samples), random.integers(0, 9, (2, 5)), next(samples),
    )  # fmt: skip
    for value in (configuration, drive, readout):
        back = from_bytes(type(value), to_bytes(value))
        for (name, one), (other_name, other) in zip(arrays(value), arrays(back), strict=True):
            assert name == other_name
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_foreign_broken_and_newer_bytes_are_refused(monkeypatch):
    data = to_bytes(Configuration())
    with pytest.raises(DataError, match=r"spikeloop\.chip\.Configuration"):
        from_bytes(Readout, data)
    with pytest.raises(DataError, match="cannot be read"):
        from_bytes(Configuration, data[:1000])
    monkeypatch.setattr("spikeloop.chip.wire.VERSION", 2)
    newer = to_bytes(Configuration())
    monkeypatch.setattr("spikeloop.chip.wire.VERSION", 1)
    with pytest.raises(DataError, match="version 2"):
        from_bytes(Configuration, newer)
