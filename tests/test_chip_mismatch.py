"""One chip is one seed: golden numbers, and the stated distributions."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from chips import ALL_CIRCUITS, configuration, events
from scipy import stats

from spikeloop.chip import transfer
from spikeloop.chip.calibrate import default_target, uncalibrated
from spikeloop.chip.circuits import Pattern, contents, neurons_of
from spikeloop.chip.configuration import Analog, Routing
from spikeloop.chip.mismatch import Mismatch, Noise, Quantity, Spread, keyed, normals, normals_at, uniforms
from spikeloop.chip.twin import EVERYTHING, Imperfection, Twin
from spikeloop.engine.disturbed import keyed as native_keyed
from spikeloop.engine.disturbed import normals as native
from spikeloop.engine.disturbed import uniforms_of

ROUTING = Routing(row_sign=np.tile(np.array([1, -1], np.int8), (2, 128)))
ANALOG = replace(uncalibrated(default_target()), fires=np.ones(512, bool))


def made(strengths: Mismatch, seed: int = 7):
    """The neurons of a chip with ``strengths`` at the codes of the laws."""
    return neurons_of(ANALOG, ROUTING.head, ROUTING.row_sign, Pattern(seed, strengths))


NONE = Mismatch().scaled(0.0)


def test_chip_7_is_chip_7_for_ever():
    """Ten digits of every stream of chip 7; a change here makes another chip of every chip ever trained on."""
    text = "".join(f"{q.name}{np.round(normals(7, q, (9,)), 10).tolist()}" for q in Quantity if q <= 69)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "68062bfe89ee68d1"


def test_the_neurons_of_chip_7_are_the_same_for_ever():
    made_of_7 = neurons_of(ANALOG, ROUTING.head, ROUTING.row_sign, Twin(7).pattern())
    digest = hashlib.sha256()
    for array in (made_of_7.population.values, made_of_7.population.disturbance, made_of_7.synapse):
        digest.update(np.array([f"{x:.5e}" for x in array.ravel()[:: max(1, array.size // 4096)]]).tobytes())
    assert digest.hexdigest()[:16] == "441d91aa46679af6"


def test_streams_are_normal_and_do_not_depend_on_each_other():
    one, other = normals(7, Quantity.LEAK, (100_000,)), normals(7, Quantity.RESET, (100_000,))
    for x in (one, other, normals(8, Quantity.LEAK, (100_000,))):
        assert stats.kstest(x, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.015
    assert abs(np.corrcoef(one, normals(8, Quantity.LEAK, (100_000,)))[0, 1]) < 0.015
    assert stats.kstest(uniforms(7, Quantity.DEAD, (100_000,)), "uniform").pvalue > 1e-3


def test_more_coordinates_leave_the_others_as_they_are():
    np.testing.assert_array_equal(normals(7, Quantity.SYNAPSE, (2, 3)).ravel(), normals(7, Quantity.SYNAPSE, (50,))[:6])


def by_hand(key: int, coordinate: int) -> int:
    """The stream ``coordinate`` of the stream ``key``, in Python's numbers."""

    def mixed(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    golden = 0x9E3779B97F4A7C15
    return mixed(mixed((key + golden) % 2**64) ^ (coordinate * golden + golden) % 2**64)


@pytest.mark.parametrize(("key", "coordinate"), [(3, 4), (0, 0), (2**64 - 1, 2**63), (-1, 7)])
def test_native_streams_are_the_same(key, coordinate):
    assert native_keyed(key, coordinate) == int(keyed(key, coordinate)) == by_hand(key, coordinate)


def test_streams_of_many_are_those_of_each():
    """Streams, and their uniform and normal numbers, in the shape that keys and coordinates have together."""
    keys, coordinates = np.array([[5], [2**64 - 1]], np.uint64), np.array([0, 7, 2**63], np.uint64)
    streams = keyed(keys, coordinates)
    assert streams.tolist() == [[by_hand(key, at) for at in coordinates.tolist()] for key in keys[:, 0].tolist()]
    of_chip_7 = keyed(keyed(7, Quantity.LEAK), np.arange(6, dtype=np.uint64)).reshape(2, 3)
    np.testing.assert_array_equal(uniforms_of(of_chip_7, 1), uniforms(7, Quantity.LEAK, (2, 3)))
    np.testing.assert_array_equal(normals_at(of_chip_7), normals(7, Quantity.LEAK, (2, 3)))


def test_native_streams_are_normal():
    x = native(int(keyed(3, 4)), 400_000)
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert abs((np.abs(x) > 3.6541528853610088).mean() / (2 * stats.norm.sf(3.6541528853610088)) - 1) < 0.3
    np.testing.assert_array_equal(x[:100], native(int(keyed(3, 4)), 100))


def spread(values, nominal):
    """Standard deviation of the logarithms of ratios to ``nominal``."""
    return np.log(values / nominal).std()


POTENTIALS = {"leak": (3, 10.0), "reset": (4, 10.0), "threshold": (2, 8.4)}


@pytest.mark.parametrize("name", POTENTIALS)
def test_potentials_vary_as_stated(name):
    row, expected = POTENTIALS[name]
    values = made(replace(NONE, **{name: getattr(Mismatch(), name)})).population.values[row]
    assert values.std() / transfer.STEP == pytest.approx(
        np.hypot(expected, getattr(Mismatch(), name).calibrated), rel=0.1
    )


@pytest.mark.parametrize(("name", "row"), [("tau_mem", 0), ("tau_syn", 1)])
def test_time_constants_vary_as_stated(name, row):
    given = getattr(Mismatch(), name)
    values = made(replace(NONE, **{name: given})).population.values[row]
    assert spread(values, 6e-6) == pytest.approx(np.hypot(given.uncalibrated, given.calibrated), rel=0.1)


def test_thresholds_are_farther_from_the_leak_than_calibrations_see():
    distance = made(replace(NONE, threshold_distance=Spread(0.031, 0), threshold_bias=0.05)).distance
    assert distance.mean() / (70 * transfer.STEP) == pytest.approx(1.05, abs=0.005)
    assert distance.std() / (70 * transfer.STEP) == pytest.approx(0.031, rel=0.1)


def test_synapses_drivers_and_gains_vary_as_stated():
    strengths = Mismatch()
    nominal = made(NONE).synapse[0, 0, 0]
    assert spread(made(replace(NONE, synapse=strengths.synapse)).synapse, nominal) == pytest.approx(0.05, rel=0.02)
    driver = made(replace(NONE, driver=strengths.driver)).synapse
    np.testing.assert_array_equal(driver[:, ::2], driver[:, 1::2])
    assert spread(driver[:, ::2, 0], nominal) == pytest.approx(0.03, rel=0.15)
    gain = made(replace(NONE, gain=strengths.gain)).synapse
    assert spread(gain[:, 0], nominal) == pytest.approx(np.hypot(0.2, 0.04), rel=0.1)
    assert abs(np.corrcoef(gain[0, 0], gain[0, 1])[0, 1]) < 0.2  # excitatory and inhibitory inputs are two


def test_limits_vary_as_stated():
    floor, most = made(replace(NONE, floor=3.0, saturation=0.1)).population.disturbance[:2]
    leak = transfer.volts_of_steps(80.0)
    assert ((leak - floor) / transfer.STEP).mean() == pytest.approx(48, abs=0.5)
    assert ((leak - floor) / transfer.STEP).std() == pytest.approx(3, rel=0.1)
    assert spread(most, most.mean()) == pytest.approx(0.1, rel=0.1)


def test_refractory_counters_vary_as_stated():
    hold = made(replace(NONE, refractory=Mismatch().refractory)).population.values[5]
    assert hold.mean() == pytest.approx(2e-6, rel=0.002)
    assert hold.std() / 2e-6 == pytest.approx(0.01, rel=0.1)
    assert stats.kstest((hold / 2e-6 - 1) / 0.01, "norm").pvalue > 1e-3


def test_few_circuits_are_dead():
    dead = np.array([Twin(seed).pattern().dead().mean() for seed in range(40)])
    assert dead.mean() == pytest.approx(0.005, rel=0.25)


LEFT = {
    "leak": (1.5, lambda made: made.population.values[3] / transfer.STEP),
    "reset": (1.5, lambda made: made.population.values[4] / transfer.STEP),
    "tau_mem": (0.08, lambda made: np.log(made.population.values[0])),
    "tau_syn": (0.05, lambda made: np.log(made.population.values[1])),
    "gain": (0.04, lambda made: np.log(made.synapse[:, :2])),  # the rows of either sign
}
"""What each writing of the analog memory leaves, and how it is seen; potentials in CADC steps, others relative."""
OTHER = replace(ANALOG, leak=ANALOG.leak + np.int16(1))
"""Contents that differ by a code, the same for all circuits."""


@pytest.mark.parametrize("name", LEFT)
def test_what_a_calibration_cannot_remove_is_drawn_with_every_writing(name):
    assert contents(ANALOG) == contents(replace(ANALOG)) != contents(OTHER)
    expected, seen = LEFT[name]
    pattern = Pattern(7, replace(NONE, **{name: getattr(Mismatch(), name)}))
    one, other = (seen(neurons_of(a, ROUTING.head, ROUTING.row_sign, pattern)) for a in (ANALOG, OTHER))
    assert (other - one).std() == pytest.approx(expected * np.sqrt(2), rel=0.1)


def test_offsets_of_the_column_adc_are_left_with_every_writing():
    """Of a reference potential, so that nothing but the channels is seen."""
    channels = Twin(7, ideal=EVERYTHING - {Imperfection.CADC_CHANNEL})
    code = np.rint(transfer.code_of_steps(np.array([128.0]))).astype(int)
    wanted = configuration(0, watch=ALL_CIRCUITS)
    wanted = replace(wanted, instruments=replace(wanted.instruments, cadc_reference=code))
    readings = [
        channels.emulate(replace(wanted, analog=analog), events([]), 1000).cadc[0, 0].astype(float)
        for analog in (ANALOG, OTHER)
    ]
    assert (readings[1] - readings[0]).std() == pytest.approx(np.sqrt(2) * np.hypot(1.0, 1 / np.sqrt(12)), rel=0.1)


def test_strengths_scale_and_vanish():
    for strengths in (Mismatch(), Noise()):
        assert strengths.scaled(1.0) == strengths
        assert strengths.scaled(2.0).scaled(0.5) == strengths
    nothing = made(NONE).population.values
    assert np.ptp(nothing, axis=1).max() < 1e-12
    assert Twin(7, mismatch=0.0).pattern().strengths == NONE
    every = Twin(7, ideal=EVERYTHING)
    assert every.pattern().strengths == NONE
    assert every.strengths() == Noise().scaled(0.0)
    assert Twin(7, ideal={Imperfection.LEAK}).pattern().strengths == replace(Mismatch(), leak=Spread(0.0, 0.0))


def test_the_defaults_of_a_new_chip_are_those_of_its_codes():
    assert Analog().leak[0] == round(float(transfer.code_of_steps(80.0)))
    assert Analog().threshold[0] == round(float(transfer.code_of_steps(150.0)))
