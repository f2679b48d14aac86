"""Projections with correlation windows of their own: by trims within a quadrant, by quadrant otherwise."""

import numpy as np
import pytest
import torch
from chips import IDEAL, by_the_laws, ready

from spikeloop import LIF, Events, Ideal, Network, Population, Projection, run
from spikeloop.chip import correlation
from spikeloop.chip.mapping import place
from spikeloop.chip.mismatch import Mismatch
from spikeloop.chip.sensing import sensors_of, trimmed
from spikeloop.errors import Unsupported
from spikeloop.plasticity import Correlation, Plasticity

NEURON = LIF(10e-3, 5e-3, refractory=2e-3)
FIRST, DOUBLE, OTHER = Correlation(5e-3, 1 / 256), Correlation(10e-3, 1 / 128), Correlation(7e-3, 1 / 200)


def shows(view) -> None:
    view.record("causal", view.causal)
    view.record("anticausal", view.anticausal)


def network(*sensors: Correlation, targets: int = 1, size: int = 8) -> Network:
    """Sensor k is that of projection k, onto population k modulo the number of targets."""
    torch.manual_seed(0)
    cells = {f"cells{k}": Population(size, NEURON) for k in range(targets)}
    links = {
        f"link{k}": Projection(
            "input", f"cells{k % targets}", torch.full((6, size), 0.5 if k < targets else 0.2),
            plasticity=Plasticity(shows, w_max=0.8, period=40e-3, start=8e-3 * k, sensor=sensor),
        )
        for k, sensor in enumerate(sensors)
    }  # fmt: skip
    return Network({"input": Population(6), **cells}, links)


def drive() -> Events:
    random = torch.Generator().manual_seed(1)
    time = [torch.rand(60, generator=random, dtype=torch.float64).sort().values * 40e-3]
    return Events.from_lists(time, [torch.randint(0, 6, (60,), generator=random)], 6)


def windows(net: Network) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By projection, steps and seconds of its synapses on a chip that follows its laws."""
    placement = place(net)
    sensors = sensors_of(net, placement.synapse, 1000.0)
    assert sensors is not None
    amplitude, tau = correlation.windows(sensors, 7, Mismatch().scaled(0.0))
    return {name: (amplitude[0, flat], tau[0, flat]) for name, flat in placement.synapse.items()}


@pytest.mark.parametrize(
    ("sensors", "targets"),
    [((FIRST, DOUBLE), 1), ((FIRST, OTHER), 2), ((FIRST, DOUBLE, OTHER), 3), ((OTHER, OTHER), 2)],
)
def test_every_projection_has_its_window(sensors: tuple[Correlation, ...], targets: int) -> None:
    found = windows(network(*sensors, targets=targets))
    for k, sensor in enumerate(sensors):
        amplitude, tau = found[f"link{k}"]
        np.testing.assert_allclose(amplitude, sensor.amplitudes[0] * correlation.FULL, rtol=0.012)
        np.testing.assert_allclose(tau, sensor.taus[0] * 1e-3, rtol=0.012)


def test_a_chip_reads_what_ideal_does() -> None:
    net = network(FIRST, OTHER, targets=2)
    chip, exact = (run(net, drive(), 60e-3, substrate=substrate) for substrate in (ready(net), Ideal()))
    for name in ("link0", "link1"):
        for kind in ("causal", "anticausal"):
            seen, true = (np.asarray(record.recorded[name][kind].value) for record in (chip, exact))
            assert true.max() > 0.01
            assert np.abs(seen - true).max() < 0.012  # a step and a half of 128


def test_kinds_of_sensors_lie_in_quadrants_of_their_own() -> None:
    def quadrants(net: Network) -> list[set[int]]:
        circuit = place(net).circuit
        return [set((c // 256 * 2 + c % 256 // 128).ravel().tolist()) for _, c in sorted(circuit.items())]

    assert not set.intersection(*quadrants(network(FIRST, OTHER, targets=2, size=150)))
    wide = Network(
        {"input": Population(200), "cells0": Population(20, NEURON), "cells1": Population(20, NEURON)},
        {f"link{k}": Projection("input", f"cells{k}", torch.zeros(200, 20), plasticity=Plasticity(
            shows, w_max=0.8, period=40e-3, sensor=sensor)) for k, sensor in enumerate((FIRST, OTHER))},
    )  # fmt: skip
    left, right = quadrants(wide)
    assert {frozenset(left), frozenset(right)} == {frozenset({0, 2}), frozenset({1, 3})}
    same = network(FIRST, FIRST, targets=2, size=150)
    plain = Network(
        dict(same.populations.items()), [Projection("input", f"cells{k}", torch.zeros(6, 150)) for k in (0, 1)]
    )
    for name, circuit in place(plain).circuit.items():
        assert np.array_equal(circuit, place(same).circuit[name])  # alike: nobody moves


def test_trims_make_ratios() -> None:
    assert trimmed([0.5]) == (0.5, {0.5: 2})
    base, trims = trimmed([3.0, 2.0, 1.0])  # type: ignore[misc]
    assert (base, trims) == (3.0, {3.0: 2, 2.0: 1, 1.0: 0})
    base, trims = trimmed([4.0, 1.0])  # type: ignore[misc]
    assert base == pytest.approx(3.0)
    assert trims == {4.0: 3, 1.0: 0}
    assert trimmed([1.0, 0.7]) is None


def test_what_no_quadrant_has_is_said() -> None:
    net = network(FIRST, OTHER)
    with pytest.raises(Unsupported, match=r"projection link1.*are others than those of link0.*ratios of 1, 2, 3 or 4"):
        run(net, drive(), 40e-3, substrate=ready_or(net))
    many = network(*(Correlation((5 + 0.37 * k) * 1e-3) for k in range(5)), targets=5)
    with pytest.raises(Unsupported, match="have 5 kinds of sensors.*at most 4"):
        run(many, drive(), 40e-3, substrate=ready_or(many))


def ready_or(net: Network):
    """A substrate whose calibration is of a network without sensors: the error comes before it matters."""
    plain = Network(dict(net.populations.items()), [Projection("input", "cells0", torch.zeros(6, 8))])
    return (
        ready(plain) if len(net.populations) == 2 else type(ready(plain))(IDEAL, calibration=by_the_laws(IDEAL, plain))
    )
