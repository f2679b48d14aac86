"""Scales from data: how many model units a step of each layer's inputs, weights and results is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeloop.ann.layers import OnArray, Setting
from spikeloop.ann.place import Float, computing
from spikeloop.ann.results import Add, ConvertingReLU, OnResults
from spikeloop.chip.configuration import WEIGHT_MAX
from spikeloop.chip.mac import ACTIVATION_MAX, GAIN_UNIT, HEIGHT, LIMITS, RESULT_MAX, ArrayPass
from spikeloop.errors import OutOfRange, ShapeMismatch, Unsupported, WrongType, kind_of

_VECTORS = 20_000  # of a layer are enough to know how large its results become


@dataclass(frozen=True)
class Range:
    """How the numbers of a layer are laid into the ranges of the array.

    inputs, weights, results: which share of them lies within, above 0, at most 1; the rest is clipped.  full: the
    result, in steps, that the share reaches: less than 127 leaves room for noise, and for chips that are no longer
    linear where they are nearly full.  gain, wait: as in `ArrayPass`, for all passes.
    """

    inputs: float = 0.999
    weights: float = 1.0
    results: float = 0.999
    full: int = RESULT_MAX
    gain: int = ArrayPass.gain
    wait: int = ArrayPass.wait

    def __post_init__(self) -> None:
        for name in ("inputs", "weights", "results"):
            if not 0 < getattr(self, name) <= 1:
                raise OutOfRange(f"{name} is {getattr(self, name)}", where="Range", expected="above 0, at most 1")
        if not 0 < self.full <= RESULT_MAX:
            raise OutOfRange(f"full is {self.full}", where="Range", expected=f"1 to {RESULT_MAX} steps")
        ArrayPass(gain=self.gain, wait=self.wait)


WHOLE_RANGE = Range()


def calibrate(model: nn.Module, sample: Tensor | tuple[Tensor, ...], within: Range = WHOLE_RANGE) -> None:
    """Find the scales, sends and gains of all layers of ``model`` from one batch of its inputs, ``sample``.

    The model runs on the sample in floating point, in evaluation mode. Of each layer, a share of the inputs is laid
    into 0..31 and of the weights into -63..63; then activations are sent as often as makes the results fill -128..127.
    A layer is signed, and takes twice the vectors, where the sample has negative inputs. Where the inputs are those
    that a `ConvertingReLU` gave, its steps are kept. To be called again when weights have grown beyond their range.

    Raises ``OutOfRange`` for NaN in the sample or in a layer's inputs, ``Unsupported`` for a layer that is used twice.
    """
    given = sample if isinstance(sample, tuple) else (sample,)
    for each in given:
        check_sample(each)
    found = _Finder(model, within, len(given[0]))
    with torch.no_grad(), computing(Float()), evaluating(model), found.watching():
        model(*given)


def check_sample(sample: object) -> None:
    """Raise where it is no batch of finite numbers."""
    where = "calibration sample"
    if not isinstance(sample, Tensor):
        raise WrongType(f"it is {kind_of(sample)}", where=where, expected="a batch of the model's inputs, a tensor")
    if sample.ndim < 2 or not len(sample):
        raise ShapeMismatch(f"it is {tuple(sample.shape)}", where=where, expected="(batch, ...), at least one")
    wrong = (~torch.isfinite(sample)).nonzero()
    if len(wrong):
        place = ", ".join(map(str, wrong[0].tolist()))
        raise OutOfRange(f"{len(wrong)} values are NaN or infinite, the first at [{place}]", where=where,
                         expected="finite numbers", todo="Leave those samples out, or fill the gaps")  # fmt: skip


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """In this block the model is in evaluation mode."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, before in training.items():
            module.training = before


class _Finder:
    """Sees what each layer is given, and sets its scales."""

    def __init__(self, model: nn.Module, within: Range, batch: int) -> None:
        self.within, self.batch = within, batch
        self.names = {module: name for name, module in model.named_modules()}
        self.seen: list[OnArray] = []
        self.step: Tensor | None = None  # of the last ConvertingReLU

    @contextmanager
    def watching(self) -> Generator[None]:
        """While the model runs."""
        hooks = [module.register_forward_pre_hook(self._layer) for module in self.names if isinstance(module, OnArray)]
        hooks += [module.register_forward_hook(self._results) for module in self.names if isinstance(module, OnResults)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _layer(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(layer, OnArray)
        where, given = f"layer {self.names[layer]!r}", args[0]
        if layer in self.seen:
            raise Unsupported("it is used twice in one run of the model", where=where,
                              todo="Give each use a layer of its own; they can share one weight")  # fmt: skip
        if not bool(torch.isfinite(given).all()):
            raise OutOfRange("its inputs have NaN or infinite values", where=where, expected="finite numbers")
        layer.check_weight()
        layer.input_scale.fill_(self._input_scale(given, where))
        signed = bool((given < 0).any())
        most = _share(layer.weight, self.within.weights)
        layer.weight_scale.fill_((most or 1.0) / WEIGHT_MAX)
        vectors = self._vectors(layer, given)
        full = self._full_results(layer, vectors)
        wanted = self.within.full * GAIN_UNIT / full if full else 0.0
        sends = min(max(round(wanted / self.within.gain), 1), LIMITS["sends"][1])
        setting = Setting(sends, self.within.gain, self.within.wait, int(signed), 0, len(self.seen))
        if full and setting.factor > wanted:  # smaller weights rather than results that are cut
            layer.weight_scale.mul_(setting.factor / wanted)
        rows, columns = layer.matrix(layer.weight).shape
        number = len(vectors) * (1 + signed) // self.batch
        layer.passes.copy_(torch.tensor(setting._replace(vectors=number, rows=rows, columns=columns)))
        self.seen.append(layer)

    def _input_scale(self, given: Tensor, where: str) -> float:
        if self.step is not None and bool((given >= 0).all()):
            steps = given / self.step
            if bool(((steps - steps.round()).abs() < 1e-3).all()):
                return float(self.step)
        most = _share(given, self.within.inputs) or float(given.abs().max())
        if not most:
            raise OutOfRange("all its inputs are zero", where=where, expected="inputs as they will be",
                             todo="Take another sample, or a model whose neurons are not all silent")  # fmt: skip
        return most / ACTIVATION_MAX

    def _vectors(self, layer: OnArray, given: Tensor) -> Tensor:
        codes = (given / layer.input_scale).round_().clamp_(-ACTIVATION_MAX, ACTIVATION_MAX)
        return layer.vectors(codes)

    def _full_results(self, layer: OnArray, vectors: Tensor) -> float:
        """What the share of all results of the blocks reaches, as sums of products of codes."""
        some = vectors[:: -(-len(vectors) // _VECTORS)]
        codes = (layer.weight / layer.per_weight(layer.weight_scale)).round_().clamp_(-WEIGHT_MAX, WEIGHT_MAX)
        matrix = layer.matrix(codes)
        blocks = zip(some.split(HEIGHT, 1), matrix.split(HEIGHT), strict=True)
        signs = (1, -1) if bool((some < 0).any()) else (1,)
        sums = [(sign * part).clamp(min=0) @ block for part, block in blocks for sign in signs]
        return _share(torch.cat([each[each != 0] for each in sums]), self.within.results)

    def _results(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        most = _share(output, self.within.results)
        if isinstance(module, Add):
            module.scale.fill_((most or 1.0) / RESULT_MAX)
            return None
        assert isinstance(module, ConvertingReLU)
        module.scale.fill_((most or 1.0) / (ACTIVATION_MAX << module.shift))
        self.step = module.step
        return module.converted(args[0])


def _share(values: Tensor, share: float) -> float:
    """What ``share`` of the magnitudes do not exceed; 0 of nothing."""
    magnitudes = values.detach().abs().reshape(-1)
    if not len(magnitudes):
        return 0.0
    return float(magnitudes.max() if share == 1 else np.quantile(magnitudes.numpy(), share))
