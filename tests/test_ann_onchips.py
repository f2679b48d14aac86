"""Layers on chips: partitioned results, the schedule carried out, what is written, what a run took, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeloop import Twin, ann
from spikeloop.ann.layers import Setting
from spikeloop.ann.onchips import Run, layers_of
from spikeloop.chip.mac import ArrayPass
from spikeloop.chip.mac_calibrate import calibrate_columns
from spikeloop.chip.twin import EVERYTHING
from spikeloop.errors import InvalidNetwork, OutOfRange, ShapeMismatch, SpikeloopWarning, Unsupported, WrongType

Codes = NDArray[Any]


class Perfect:
    """A chip without imperfections that notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Codes, Codes, ArrayPass]] = []

    def multiply(self, weights: Codes, activations: Codes, how: ArrayPass) -> Codes:
        assert weights.dtype == np.int8
        assert activations.dtype == np.uint8
        assert weights.flags.c_contiguous
        assert activations.flags.c_contiguous
        self.calls.append((weights, activations, how))
        results = how.sends * how.gain * (activations.astype(np.int64) @ weights) // 10_000
        return np.clip(results, -128, 127).astype(np.int8)


class Exact(Perfect):
    """A chip that adds up with gain 1 and without an ADC."""

    def multiply(self, weights: Codes, activations: Codes, how: ArrayPass) -> Codes:
        return activations.astype(np.int64) @ weights


def partitioned(chips: list[Any], weights: Codes, activations: Codes, setting: Setting) -> Codes:
    layer = ann.Linear(*weights.shape)
    layer.passes.copy_(torch.tensor(setting._replace(rows=weights.shape[0], columns=weights.shape[1], vectors=1)))
    run = Run(chips, {"layer": layer})
    return run.sums(layer, torch.from_numpy(weights.T).float(), torch.from_numpy(activations).float()).numpy()


@settings(max_examples=8)
@given(st.integers(1, 2048), st.integers(1, 2048), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_tiles_add_up_to_the_whole(rows: int, columns: int, chips: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.integers(-63, 64, (rows, columns))
    activations = random.integers(0, 32, (3, rows))
    setting = Setting(sends=int(random.integers(1, 9)), gain=int(random.integers(15, 46)), wait=5)
    assert np.array_equal(partitioned([Exact()] * chips, weights, activations, setting), activations @ weights)
    blocks = [(activations[:, k : k + 128] @ weights[k : k + 128]) for k in range(0, rows, 128)]
    whole = sum(np.clip(setting.factor * block // 10_000, -128, 127) for block in blocks)
    twins = [Twin(k, ideal=EVERYTHING) for k in range(chips)]
    assert np.array_equal(partitioned(twins, weights, activations, setting), whole)


@pytest.mark.parametrize("size", [(2048, 2048), (1, 1), (128, 256), (129, 257)])
def test_tiles_of_edge_sizes_add_up(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    weights, activations = random.integers(-63, 64, size), random.integers(0, 32, (2, size[0]))
    setting = Setting(sends=1, gain=20, wait=5)
    assert np.array_equal(partitioned([Exact()], weights, activations, setting), activations @ weights)


def network() -> tuple[nn.Sequential, Tensor]:
    """Three layers that fit on one chip, and one that does not."""
    torch.manual_seed(0)
    model = nn.Sequential(
        ann.Conv2d(1, 6, 5, stride=3), nn.ReLU(), nn.Flatten(), ann.Linear(384, 150), nn.Tanh(), ann.Linear(150, 10),
    )  # fmt: skip
    sample = torch.rand(20, 1, 28, 28)
    ann.calibrate(model, sample)
    return model, sample


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_calls_are_those_of_the_schedule(number: int) -> None:
    model, sample = network()
    chips = [Perfect() for _ in range(number)]
    lab = ann.Experiment(model, ann.OnChips(chips))
    assert lab.schedule is not None
    measured = [len(chip.calls) for chip in chips]
    with torch.no_grad():
        lab(sample)
        lab(sample)
    layers, trials = dict(model.named_modules()), list[int]()
    for k, chip in enumerate(chips):
        entries = [entry for entry in lab.schedule.entries if entry.chip == k]
        calls = chip.calls[measured[k] :]
        assert len(calls) == 2 * len(entries)
        for (weights, activations, how), entry in zip(calls, 2 * entries, strict=True):
            assert (how.half, how.row, how.column) == (entry.half, entry.row, entry.column)
            layer: Any = layers[entry.layer]
            codes = (layer.weight / layer.per_weight(layer.weight_scale)).round()
            part = layer.matrix(codes)[slice(*entry.rows), slice(*entry.columns)]
            assert np.array_equal(weights, part.detach().numpy())
            setting = layer.setting
            assert (how.sends, how.gain, how.wait) == (setting.sends, setting.gain, setting.wait)
            assert len(activations) == 20 * setting.vectors
            trials.append(how.trial)
    assert sorted(trials) == list(range(2 * len(lab.schedule.entries)))
    assert any(entry.write for entry in lab.schedule.entries) == (number == 1)


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_written_and_what_it_took(number: int) -> None:
    model, sample = network()
    lab = ann.Experiment(model, ann.OnChips([Perfect() for _ in range(number)]))
    assert lab.schedule is not None
    assert lab.cost is None
    first, later, changed = [], [], []
    for costs in (first, later, changed):
        if costs is changed:
            with torch.no_grad():
                model[5].weight[0, 0] += 20 * model[5].weight_scale[0] * (-1 if model[5].weight[0, 0] > 0 else 1)
        with torch.no_grad():
            lab(sample)
        costs.append(lab.cost)
    entries = lab.schedule.entries
    assert first[0].reconfigurations == len(entries)
    assert later[0].reconfigurations == lab.schedule.rewritten
    again = [e for e in lab.schedule.of("5") if not e.write and e.columns[0] == 0 and e.rows[0] == 0]
    assert changed[0].reconfigurations == lab.schedule.rewritten + len(again)
    for cost in (first[0], later[0]):
        assert cost.passes == lab.schedule.cost(20).passes == 20 * (64 * 1 + 3 * 1 + 2 * 2)  # the last one is signed
        assert cost.wall_time > cost.emulation > 0
        assert cost.transfer > 0
        assert cost.python > 0
        assert cost.wall_time == pytest.approx(cost.emulation + cost.transfer + cost.python)
    assert later[0].chip_time == pytest.approx(lab.schedule.cost(20).chip_time)
    assert first[0].chip_time > later[0].chip_time


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("number", [1, 3])
def test_perfect_chips_do_what_the_software_does(number: int, signed: bool) -> None:
    """The same integers, the same gradients; and nearly the same outputs, since a calibration measures half steps."""
    model, sample = network()
    given = sample - (0.5 if signed else 0.0)
    ann.calibrate(model, given)
    chips = [Twin(k, ideal=EVERYTHING) for k in range(number)]
    run = Run(chips, layers_of(model))
    for layer in run.layers:
        weights = (layer.weight / layer.per_weight(layer.weight_scale)).round().detach()
        codes = torch.randint(0, 32, (20, *((1, 28, 28) if layer is model[0] else layer.weight.shape[1:]))).float()
        results = ann.Quantised().sums(layer, weights, codes) - 0.5 * layer.setting.blocks
        assert torch.equal(run.sums(layer, weights, codes), results)
    outputs, gradients = [], []
    for place in (ann.OnChips(chips), ann.Quantised()):
        outputs.append(ann.Experiment(model, place)(given).detach())
        first = nn.Sequential(model[0])
        first.zero_grad()
        ann.Experiment(first, place)(given).sum().backward()
        gradients.append(model[0].weight.grad)
    assert float((outputs[0] - outputs[1]).std()) < 0.1 * float(outputs[0].std())
    assert torch.equal(*gradients)
    assert gradients[0].any()


def test_a_calibration_is_allowed_for() -> None:
    """Of a chip with offsets and another gain, and no noise, not more is left than rounding makes."""
    torch.manual_seed(0)
    model, sample = nn.Sequential(ann.Linear(128, 400)), torch.rand(200, 128)  # in both halves
    ann.calibrate(model, sample)
    unit = float(model[0].input_scale * model[0].weight_scale[0]) * 1e4 / model[0].setting.factor

    class Skewed(Perfect):
        def multiply(self, weights: Codes, activations: Codes, how: ArrayPass) -> Codes:
            assert how.columns is not None
            own = np.linspace(-9, 9, 512)[how.half * 256 + how.column :][: weights.shape[1]]
            shift = how.columns.offset[how.half * 256 + how.column :][: weights.shape[1]]
            results = 0.9 * how.sends * how.gain * (activations.astype(np.int64) @ weights) / 10_000
            return np.clip(np.floor(results + own + shift), -128, 127).astype(np.int8)

    with torch.no_grad():
        exact = ann.Experiment(model, ann.Float())(sample)
        rounded = ann.Experiment(model)(sample) - exact
        skewed = ann.Experiment(model, ann.OnChips(Skewed()))(sample) - exact
    assert float(skewed.std()) < 1.25 * float(rounded.std())  # its steps are larger
    assert float(skewed.mean(0).abs().max() / unit) < 1.0  # of up to 9


@pytest.mark.parametrize("rows", [128, 200])
def test_what_leaks_away_in_a_long_pass_is_allowed_for(rows: int) -> None:
    torch.manual_seed(0)
    layer = ann.Linear(rows, 60, bias=False)
    with torch.no_grad():
        layer.weight.mul_((torch.arange(rows) % 40 == 0) + 0.02)  # results are small: activations are sent often
    sample = torch.rand(300, rows)
    ann.calibrate(layer, sample)
    assert layer.setting.sends > 12
    with torch.no_grad():
        wanted = ann.Experiment(layer, ann.Float())(sample)
        found = ann.Experiment(layer, ann.OnChips(Twin(101, noise=0.0)))(sample)
    slope = float((found * wanted).sum() / wanted.square().sum())
    assert slope == pytest.approx(1, abs=0.02)  # without: below 0.9


def test_one_sample_without_a_batch_costs_one() -> None:
    layer = ann.Linear(8, 3)
    ann.calibrate(layer, torch.rand(20, 8))
    lab = ann.Experiment(layer, ann.OnChips(Twin(0)))
    with torch.no_grad():
        lab(torch.rand(8))
        one = lab.cost
        lab(torch.rand(5, 8))
    assert one is not None
    assert lab.cost is not None
    assert (one.passes, lab.cost.passes) == (1, 5)
    assert (one.samples, lab.cost.samples) == (1, 5)


def test_columns_that_failed_are_told() -> None:
    layer = ann.Linear(8, 3)
    ann.calibrate(layer, torch.rand(20, 8))
    calibration = calibrate_columns(Twin(0))
    failed = replace(calibration, success=np.arange(512) != 1)
    with pytest.warns(SpikeloopWarning, match="1 of 3 columns in use failed"):
        ann.Experiment(layer, ann.OnChips(Twin(0), [failed]))(torch.rand(5, 8))


def test_a_number_chooses_the_draw() -> None:
    model, sample = network()
    chip = Perfect()
    lab = ann.Experiment(model, ann.OnChips(chip))
    with torch.no_grad():
        lab(sample, number=7)
        lab(sample, number=7)
        lab(sample)
    assert lab.schedule is not None
    each = len(lab.schedule.entries)
    trials = [how.trial for _, _, how in chip.calls[-3 * each :]]
    assert trials[:each] == trials[each : 2 * each] == list(range(7 * each, 8 * each))
    assert trials[2 * each :] == list(range(each))


def test_the_same_model_elsewhere() -> None:
    model, sample = network()
    with torch.no_grad():
        exact = ann.Experiment(model, ann.Float())(sample)
        rounded = ann.Experiment(model)(sample)
        noisy = ann.Experiment(model, ann.Quantised(noise=2.0))(sample)
    assert ann.Experiment(model, ann.Float()).schedule is None
    errors = [float((each - exact).std()) for each in (rounded, noisy)]
    assert 0 < errors[0] < errors[1] < float(exact.std())


def test_what_a_chip_says_comes_through() -> None:
    class Broken(Perfect):
        def multiply(self, weights: Codes, activations: Codes, how: ArrayPass) -> Codes:
            raise OutOfRange("a chip is unwell")

    model, sample = network()
    for chips in ([Broken()], [Perfect(), Broken()]):
        lab = ann.Experiment(model, ann.OnChips(chips))
        with pytest.raises(OutOfRange, match="a chip is unwell"):
            lab(sample)


def test_refused() -> None:
    model, sample = network()
    with pytest.raises(OutOfRange, match="OnChips: no chip is given"):
        ann.OnChips([])
    with pytest.raises(WrongType, match="the class Twin is no chip"):
        ann.OnChips(Twin)  # type: ignore[arg-type]
    with pytest.raises(WrongType, match="an int is no chip"):
        ann.OnChips([Twin(1), 7])  # type: ignore[list-item]
    with pytest.raises(ShapeMismatch, match="1 calibrations of 2 chips"):
        ann.OnChips([Twin(1), Twin(2)], [calibrate_columns(Twin(1))])
    with pytest.raises(OutOfRange, match=r"a calibration is of Twin\(1\).*one of Twin\(2\)"):
        ann.OnChips(Twin(2), [calibrate_columns(Twin(1))])
    with pytest.raises(WrongType, match="an int is no calibration of columns"):
        ann.OnChips(Twin(2), [1])  # type: ignore[list-item]
    with pytest.raises(WrongType, match=r"the place is a Twin.*OnChips\(Twin\(7\)\)"):
        ann.Experiment(model, Twin(0))  # type: ignore[arg-type]
    with pytest.raises(InvalidNetwork, match="layer '6': it has no scales"):
        ann.Experiment(model.append(ann.Linear(10, 2)), ann.OnChips(Twin(0)))(sample)
    with pytest.raises(InvalidNetwork, match="no layer on the array"):
        ann.Experiment(nn.Linear(2, 2), ann.OnChips(Twin(0)))(torch.rand(3, 2))
    pair = nn.Sequential(ann.Linear(4, 4), ann.Linear(4, 4))
    ann.calibrate(pair, torch.rand(9, 4))
    turned = nn.Sequential(pair[1], pair[0])
    with pytest.raises(Unsupported, match="runs in another order"):
        ann.Experiment(turned, ann.OnChips(Twin(0)))(torch.rand(9, 4))
