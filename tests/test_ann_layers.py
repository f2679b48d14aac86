"""Layers on the array: their integers, their gradients, their scales, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn

from spikeloop import ann
from spikeloop.ann.layers import OnArray, Setting
from spikeloop.chip.mac import ArrayPass
from spikeloop.errors import OutOfRange, ShapeMismatch, Unsupported, WrongType

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: ann.Linear(30, 7), (4, 30)),
    "linear over 128 rows": (lambda: ann.Linear(300, 5), (4, 300)),
    "linear of sequences": (lambda: ann.Linear(6, 3), (2, 5, 6)),
    "conv1d": (lambda: ann.Conv1d(3, 5, 4, stride=2, padding=1, dilation=2), (2, 3, 19)),
    "conv1d same": (lambda: ann.Conv1d(2, 4, 4, padding="same"), (2, 2, 9)),
    "conv2d": (lambda: ann.Conv2d(2, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (3, 2, 7, 6)),
    "conv2d groups": (lambda: ann.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "expanded": (lambda: ann.ExpandedConv1d(3, 5, 4, stride=3, padding=1), (2, 3, 50)),
    "expanded 2": (lambda: ann.ExpandedConv1d(4, 6, 3, dilation=2, groups=2, num_expansions=2), (2, 4, 16)),
}


def made(name: str, *, signed: bool = False, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    """A calibrated layer and an input, both at numbers that codes stand for."""
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer: OnArray = make().to(dtype)
    given = torch.rand(shape, dtype=dtype) - (0.5 if signed else 0.0)
    ann.calibrate(layer, given)
    with torch.no_grad():
        weights = (layer.weight / layer.per_weight(layer.weight_scale)).round().clamp(-63, 63)
        layer.weight.copy_(weights * layer.per_weight(layer.weight_scale))
        if layer.bias is not None:
            layer.bias.zero_()
    codes = (given / layer.input_scale).round().clamp(-31, 31)
    return layer, codes * layer.input_scale


def by_hand(layer: Any, given: Tensor) -> Tensor:
    """(V, N) summed results, block by block with Python's integers."""
    weights = (layer.weight / layer.per_weight(layer.weight_scale)).round().detach()
    codes = (given / layer.input_scale).round()
    matrix = layer.matrix(weights).numpy().astype(int)
    how = ArrayPass(sends=layer.setting.sends, gain=layer.setting.gain)
    total = np.zeros(1)
    for sign in (1, -1) if layer.setting.signed else (1,):
        vectors = layer.vectors((sign * codes).clamp(min=0)).numpy().astype(int)
        for row in range(0, len(matrix), 128):
            part = slice(row, row + 128)
            total = total + sign * reference.multiply(matrix[part], vectors[:, part], how).astype(int)
    return torch.from_numpy(total)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_results_are_the_integers_of_the_array(name: str, signed: bool, dtype: torch.dtype) -> None:
    layer, given = made(name, signed=signed, dtype=dtype)
    setting = layer.setting
    assert setting.signed == signed
    results = by_hand(layer, given) + (0 if signed else 0.5 * setting.blocks)
    unit = layer.input_scale * layer.weight_scale * 1e4 / setting.factor
    expected = layer.lifted(results.to(dtype), unit, given)
    output = layer(given)
    assert output.dtype == dtype
    assert torch.allclose(output, expected, rtol=1e-6, atol=0)
    with ann.computing(ann.Float()):
        assert output.shape == layer(given).shape
    assert float(results.abs().max()) > 60


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # torch's own layer, of an even kernel
@pytest.mark.parametrize("name", LAYERS)
def test_products_are_those_of_torch(name: str) -> None:
    layer, given = made(name)
    kind: Any = next(each for each in (nn.Linear, nn.Conv1d, nn.Conv2d) if isinstance(layer, each))
    with ann.computing(ann.Float()):
        assert torch.allclose(layer(given), kind.forward(layer, given))
        assert torch.allclose(layer(given[0]), layer(given)[0])
    weights = layer.weight / layer.per_weight(layer.weight_scale)
    results = layer.vectors(given) @ layer.matrix(weights)
    lifted = layer.lifted(results, layer.weight_scale, given)
    assert torch.allclose(lifted, kind.forward(layer, given))


@pytest.mark.parametrize("sends", [1, 7])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_without_rounding(name: str, signed: bool, sends: int) -> None:
    """Central differences of the formula with gain, sends and scales, but without floor and cut of the results."""
    layer, given = made(name, signed=signed)
    layer.passes.copy_(torch.tensor(layer.setting._replace(sends=sends, gain=33)))
    setting: Setting = layer.setting
    with torch.no_grad():
        inner = (given.abs() / layer.input_scale).clamp(1, 30) * given.sign()  # at the edges there is no derivative
        given = torch.where(inner == 0, 1.0, inner) * layer.input_scale
        given.reshape(-1)[::5] = 40 * layer.input_scale  # clipped
        given.reshape(-1)[1::5] = -layer.input_scale
    weight = layer.weight.detach().clone()

    def smooth(x: Tensor, w: Tensor) -> Tensor:
        codes = (x / layer.input_scale).clamp(-31 if signed else 0, 31)
        matrix = layer.matrix(w / layer.per_weight(layer.weight_scale))
        results = setting.sends * setting.gain / 10_000 * (layer.vectors(codes) @ matrix)
        return layer.lifted(results, layer.input_scale * layer.weight_scale * 1e4 / setting.factor, x)

    cotangent = torch.randn_like(smooth(given, weight))
    given.requires_grad_()
    by_input, by_weight = torch.autograd.grad((layer(given) * cotangent).sum(), [given, layer.weight])
    for of, value, gradient in (("input", given, by_input), ("weight", weight, by_weight)):
        base = value.detach()
        direction = torch.randn_like(base) * 1e-6
        pair = [(base + k * direction, weight) if of == "input" else (given, base + k * direction) for k in (1, -1)]
        up, down = (float((smooth(*each) * cotangent).sum().detach()) for each in pair)
        assert float((gradient * direction).sum()) == pytest.approx((up - down) / 2, rel=1e-5, abs=1e-13)
    clipped = given > 31.5 * layer.input_scale
    assert clipped.any()
    assert not by_input[clipped].any()


def test_a_weight_beyond_its_range_can_only_come_back() -> None:
    layer, given = made("linear")
    with torch.no_grad():
        layer.weight[0] = 2 * 63 * layer.weight_scale[0]
    for sign in (1, -1):
        layer.weight.grad = None
        (sign * layer(given)[:, 0]).sum().backward()
        assert bool(layer.weight.grad[0].any()) == (sign == 1)  # descent makes it smaller, or would make it larger


def test_expanded_convolution_gives_what_the_plain_one_gives_with_fewer_vectors() -> None:
    torch.manual_seed(1)
    plain, expanded = ann.Conv1d(9, 16, 5, stride=2), ann.ExpandedConv1d(9, 16, 5, stride=2)
    expanded.load_state_dict(plain.state_dict())
    given = torch.rand(3, 9, 128)
    ann.calibrate(plain, given)
    ann.calibrate(expanded, given)
    assert expanded.copies == 5
    assert (plain.setting.vectors, expanded.setting.vectors) == (62, 13)
    assert (expanded.setting.rows, expanded.setting.columns) == (9 * 13, 5 * 16)
    expanded.passes[:2] = plain.passes[:2]  # the results' percentile is of other vectors
    expanded.weight_scale.copy_(plain.weight_scale)
    assert torch.equal(plain(given), expanded(given))


def test_noise_is_that_of_the_place() -> None:
    layer, given = made("linear", dtype=torch.float32)
    many = given[:1].repeat(20_000, 1)
    with torch.no_grad(), ann.computing(ann.Quantised(noise=2.0)):
        output = layer(many)
    unit = layer.input_scale * layer.weight_scale * 1e4 / layer.setting.factor
    inner = layer(given[:1])[0].detach().div(unit).abs() < 100  # far from the edges
    spread = (output / unit).std(0)[inner]
    assert torch.allclose(spread, torch.tensor(2.0**2 + 1 / 12).sqrt(), rtol=0.03)
    with torch.no_grad(), ann.computing(ann.Float()):
        exact = layer(given[:1])
    assert float(((output.mean(0) - exact) / unit)[0][inner].abs().max()) < 0.1  # half a step is given back


def test_calibration_fills_the_ranges() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(ann.Linear(200, 60), nn.ReLU(), nn.Dropout(0.5), ann.Linear(60, 10))
    sample = torch.rand(500, 200) * 3
    ann.calibrate(model, sample, ann.Range(inputs=1.0))
    first, second = model[0], model[3]
    assert model.training
    assert float(first.input_scale) == pytest.approx(float(sample.max()) / 31)
    assert float(first.weight_scale[0] * 63) >= float(first.weight.detach().abs().max()) * (1 - 1e-6)
    assert (first.setting.order, second.setting.order) == (0, 1)
    assert (first.setting.rows, first.setting.columns, first.setting.vectors) == (200, 60, 1)
    for layer, given in ((first, sample[:20]), (second, model[:3].eval()(sample[:20]).detach())):
        results = by_hand(layer, given.clamp(max=31 * layer.input_scale)).abs() / layer.setting.blocks
        assert 60 < np.quantile(results, 0.999) <= 128


def test_an_untouched_layer_is_the_one_of_torch() -> None:
    torch.manual_seed(0)
    ours = ann.Linear(5, 4)
    torch.manual_seed(0)
    theirs = nn.Linear(5, 4)
    given = torch.randn(3, 5)
    assert torch.equal(ours(given), theirs(given))
    assert not ours.calibrated


def test_converting_relu() -> None:
    codes = torch.tensor([-3.0, 0.0, 1.0, 3.0, 4.0, 61.0, 63.0, 127.0], requires_grad=True)
    output = ann.ConvertingReLU(shift=1)(codes)
    assert output.tolist() == [0, 0, 0, 2, 4, 60, 62, 62]  # twice floor(y / 2), at most 31
    output.sum().backward()
    assert codes.grad is not None
    assert codes.grad.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    with ann.computing(ann.Float()):
        assert ann.ConvertingReLU(shift=1)(codes.detach()).tolist() == [0, 0, 1, 3, 4, 61, 63, 127]


def test_the_steps_of_a_converting_relu_are_those_of_the_next_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(ann.Conv2d(1, 4, 3), ann.ConvertingReLU(1), nn.MaxPool2d(2), nn.Flatten(), ann.Linear(36, 5))
    ann.calibrate(model, torch.rand(50, 1, 8, 8))
    assert float(model[4].input_scale) == float(model[1].step)


def test_add_saturates() -> None:
    y, z = torch.tensor([100.0, -100.0, 5.0], requires_grad=True), torch.tensor([100.0, -100.0, -2.0])
    output = ann.Add()(y, z)
    assert output.tolist() == [127, -128, 3]
    output.sum().backward()
    assert y.grad is not None
    assert y.grad.tolist() == [0, 0, 1]
    assert ann.Add(alpha=2)(y, z).tolist() == [127, -128, 1]
    with pytest.raises(ShapeMismatch, match=r"\(3,\) and \(2,\)"):
        ann.Add()(y, z[:2])


def test_argmax() -> None:
    assert ann.ArgMax()(torch.tensor([[1.0, 3.0, 3.0], [5.0, 1.0, 2.0]])).tolist() == [1, 0]


def test_refused_when_made() -> None:
    with pytest.raises(Unsupported, match="padding_mode is 'reflect'"):
        ann.Conv1d(1, 1, 3, padding=1, padding_mode="reflect")
    with pytest.raises(OutOfRange, match="num_expansions is 0"):
        ann.ExpandedConv1d(1, 1, 3, num_expansions=0)
    with pytest.raises(OutOfRange, match="shift is 8"):
        ann.ConvertingReLU(8)
    with pytest.raises(OutOfRange, match="scale is 0"):
        ann.Add(scale=0)
    with pytest.raises(OutOfRange, match="the noise is -1"):
        ann.Quantised(noise=-1)
    with pytest.raises(WrongType, match="Quantised: the noise is a str"):
        ann.Quantised("2")  # type: ignore[arg-type]
    with pytest.raises(OutOfRange, match=r"results is 1\.5"):
        ann.Range(results=1.5)
    with pytest.raises(OutOfRange, match="gain is 50"):
        ann.Range(gain=50)


def test_refused_when_run() -> None:
    layer, given = made("linear", dtype=torch.float32)
    with pytest.raises(ShapeMismatch, match=r"Linear\(30, 7\): the input is \(4, 29\).*\(\.\.\., 30\)"):
        layer(given[:, 1:])
    with pytest.raises(WrongType, match=r"the input is torch\.float64"):
        layer(given.double())
    with pytest.raises(OutOfRange, match="the input has NaN or infinite values"):
        layer(given * float("nan"))
    with torch.no_grad():
        layer.weight[2, 3] = float("nan")
    with pytest.raises(OutOfRange, match="the weight has NaN"):
        layer(given)
    convolution = ann.Conv2d(1, 20, 10, padding=1)
    with pytest.raises(ShapeMismatch, match=r"Conv2d\(1, 20, 10x10\).*\(2, 1, 7, 28\).*\(batch, 1, at least 8, 8\)"):
        convolution(torch.rand(2, 1, 7, 28))
    with pytest.raises(ShapeMismatch, match=r"\(2, 3, 28, 28\)"):
        convolution(torch.rand(2, 3, 28, 28))
    layer, given = made("linear")
    with pytest.raises(Unsupported, match="cannot be differentiated twice"):
        torch.autograd.grad(layer(given).sum(), layer.weight, create_graph=True)


def test_refused_when_calibrated() -> None:
    model = nn.Sequential(ann.Linear(3, 3), ann.Linear(3, 3))
    sample = torch.rand(4, 3)
    sample[2, 1] = float("nan")
    with pytest.raises(OutOfRange, match=r"calibration sample: 1 values are NaN or infinite, the first at \[2, 1\]"):
        ann.calibrate(model, sample)
    with pytest.raises(OutOfRange, match="layer '0': all its inputs are zero"):
        ann.calibrate(model, torch.zeros(4, 3))
    with pytest.raises(WrongType, match="it is a list"):
        ann.calibrate(model, [1.0])  # type: ignore[arg-type]
    with pytest.raises(ShapeMismatch, match=r"it is \(0, 3\)"):
        ann.calibrate(model, torch.zeros(0, 3))
    with pytest.raises(Unsupported, match="layer '0': it is used twice"):
        ann.calibrate(nn.Sequential(model[0], model[0]), torch.rand(4, 3))
    with torch.no_grad():
        model[0].weight.fill_(float("inf"))
    with pytest.raises(OutOfRange, match="the weight has NaN or infinite"):
        ann.calibrate(model, torch.rand(4, 3))
