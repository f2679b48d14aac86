"""Float models become models on the array: what is replaced, folded, left alone and refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from spikeloop import ann
from spikeloop.errors import OutOfRange, ShapeMismatch, SpikeloopError, Unsupported, WrongType


def in_float(model: nn.Module, given: Tensor) -> Tensor:
    with torch.no_grad(), ann.computing(ann.Float()):
        return model(given)


def trained(model: nn.Module, given: Tensor) -> nn.Module:
    """With running statistics that are not those of the beginning."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.affine:
            nn.init.normal_(norm.weight, 1.0, 0.3)
            nn.init.normal_(norm.bias, 0.0, 0.3)
    for _ in range(5):
        model(given + torch.randn(()))
    return model.eval()


class Residual(nn.Module):
    """Branches, a module of modules, and a batch norm that does not follow in the order of registration."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.inner = nn.ModuleDict({"a": nn.Linear(6, 8, bias=False), "b": nn.Linear(8, 8)})
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(8, 3)

    def forward(self, given: Tensor) -> Tensor:
        hidden = self.norm(self.drop(self.inner["a"](given))).relu()
        return self.out(hidden + self.inner["b"](hidden).tanh())


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


MODELS = {
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(6, 8, 2, groups=2, bias=False), nn.BatchNorm2d(8, affine=False), nn.GELU()),
            nn.Flatten(), nn.Dropout(), nn.Linear(8, 5), nn.Softmax(1),
        ),
        (40, 1, 8, 8),
    ),
    "1d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 5, padding="same"), nn.BatchNorm1d(8), nn.ReLU(), nn.AvgPool1d(4), nn.Flatten(),
            nn.Linear(64, 4),
        ),
        (40, 3, 32),
    ),
    "branches": (Residual, (40, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_convert_keeps_what_the_model_computes(name: str) -> None:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    given = torch.randn(shape)
    model = trained(make(), given)
    expected = in_float(model, given)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ours = ann.convert(model, given, expand=name == "1d")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not [each for each in ours.modules() if type(each) in (nn.Linear, nn.Conv1d, nn.Conv2d)]
    assert not [each for each in ours.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert torch.allclose(in_float(ours, given), expected, atol=1e-5)
    with torch.no_grad():
        rounded = ours(given)
    assert 0 < float((rounded - expected).std()) < 0.15 * float(expected.std())
    assert {type(each) for each in ours.modules()} >= {ann.Linear} | ({ann.ExpandedConv1d} if name == "1d" else set())


def test_parameters_can_be_trained_after_conversion() -> None:
    torch.manual_seed(0)
    given = torch.rand(64, 10)
    target = (given[:, :1] - given[:, 1:2]).detach()
    ours = ann.convert(nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1)), given)
    optimiser = torch.optim.Adam(ours.parameters(), 1e-2)
    losses = []
    for step in range(80):
        if step % 10 == 0:
            ann.calibrate(ours, given)  # weights grow
        loss = (ours(given) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_the_random_generator_is_left_alone() -> None:
    model, sample = nn.Sequential(nn.Linear(3, 3)), torch.rand(4, 3)
    torch.manual_seed(5)
    ann.convert(model, sample)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)), r"layer '1': a LSTM.*'weight_ih_l0'.*Conv1d or Linear layers"),
        (nn.Sequential(nn.LayerNorm(4)), r"layer '0': a LayerNorm.*Expected: Linear, Conv1d, Conv2d.*Take BatchNorm"),
        (nn.Sequential(nn.PReLU()), "layer '0': a PReLU.*Take ReLU"),
        (nn.Sequential(nn.MultiheadAttention(4, 1)), "a MultiheadAttention.*scaled_dot_product_attention"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))), "subclass or parametrised"),
        (nn.Sequential(old_weight_norm(nn.Linear(4, 4))), "layer '0': the weight of a Linear is no parameter.*Undo it"),
        (
            nn.Sequential(nn.Linear(4, 4), prune.l1_unstructured(nn.Linear(4, 4), "bias", 2)),
            r"layer '1': the bias of a Linear is no parameter.*prune\.remove",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()),
            r"layer '1': weight is torch\.bfloat16.*torch\.float32.*model\.float\(\)",
        ),
        (nn.Linear(4, 4).half(), r"the model: weight is torch\.float16"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)), "layer '1': a ReLU is right before this batch norm"),
        (nn.Sequential(nn.BatchNorm1d(4)), "layer '0': nothing that is a layer is right before"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            "layer '1': it has no running statistics",
        ),
        (nn.Sequential(nn.Conv1d(4, 4, 1, padding_mode="circular")), "layer '0': padding_mode is 'circular'"),
    ],
)
def test_what_cannot_be_converted(model: nn.Module, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        ann.convert(model, torch.rand(4, 4))


@pytest.mark.parametrize(
    ("sample", "kind", "words"),
    [
        ((), ShapeMismatch, "calibration sample: it is an empty tuple.*a tensor for each input"),
        (torch.rand(4, 5), ShapeMismatch, r"layer 'inner\.a': a Linear fails on the sample, here \(4, 5\): mat1"),
        ((torch.rand(4, 6), torch.rand(4, 6)), ShapeMismatch, r"the model: .*here \(4, 6\), \(4, 6\): .*positional"),
        (torch.rand(4, 3, 6), ShapeMismatch, r"layer 'norm': a BatchNorm1d fails on the sample, here \(4, 3, 8\)"),
        (torch.rand(4, 6).double(), WrongType, r"'inner\.a': a Linear of torch\.float32 was given torch\.float64"),
        (torch.ones(4, 6, dtype=torch.int64), WrongType, r"was given torch\.int64.*sample of the model's dtype"),
    ],
)
def test_a_sample_that_the_model_does_not_take(
    sample: Tensor | tuple[Tensor, ...], kind: type[SpikeloopError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        ann.convert(Residual(), sample)


def test_a_folded_layer_may_not_be_used_elsewhere() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, given: Tensor) -> Tensor:
            hidden = self.layer(given)
            return hidden + self.norm(hidden)

    model = trained(Both(), torch.randn(20, 4))
    with pytest.raises(Unsupported, match="with its batch norms folded the model gives other results"):
        ann.convert(model, torch.randn(20, 4))


def test_refused() -> None:
    with pytest.raises(OutOfRange, match="NaN"):
        ann.convert(nn.Linear(2, 2), torch.full((2, 2), float("nan")))
    with pytest.raises(WrongType, match="the model is a float"):
        ann.convert(1.0, torch.rand(2, 2))  # type: ignore[arg-type]
