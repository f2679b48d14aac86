"""A trained float model becomes one whose products the array computes."""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeloop.ann.calibrate import WHOLE_RANGE, Range, calibrate, check_sample, evaluating
from spikeloop.ann.convolution import Conv1d, Conv2d, ExpandedConv1d
from spikeloop.ann.layers import Linear, OnArray
from spikeloop.ann.place import Float, computing
from spikeloop.ann.results import OnResults
from spikeloop.errors import ShapeMismatch, SpikeloopError, Unsupported, WrongType, kind_of

Norm = nn.BatchNorm1d | nn.BatchNorm2d
_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_PRECISIONS = (torch.float32, torch.float64)
_WORKS = (
    "Linear, Conv1d, Conv2d, BatchNorm right behind one of them, and layers without parameters, which stay in software"
)
_INSTEAD: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.RNNBase, nn.RNNCellBase), "Take Conv1d or Linear layers over the time steps"),
    ((nn.MultiheadAttention,), "Take Linear layers around torch.nn.functional.scaled_dot_product_attention"),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d), "Take Upsample and a convolution behind it"),
    ((nn.Conv3d,), "Take Conv2d, with one dimension among its channels"),
    ((nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d), "Take BatchNorm, which is folded"),
    ((nn.Embedding, nn.EmbeddingBag), "Take a Linear layer of one-hot vectors"),
    ((nn.PReLU,), "Take ReLU"),
    (_PRODUCTS, "It is a subclass or parametrised: make it a plain layer first"),
)


def convert(
    model: nn.Module, sample: Tensor | tuple[Tensor, ...], within: Range = WHOLE_RANGE, *, expand: bool = False
) -> nn.Module:
    """A copy of ``model`` with its `Linear`, `Conv1d` and `Conv2d` on the array, calibrated on ``sample``.

    Batch norms right behind one of them are folded into it, with their running statistics, and become identities.
    Layers without parameters (activations, pooling, dropout, ...) and whatever the model's own ``forward`` does stay in
    software. ``within`` is for `calibrate`; with ``expand``, `Conv1d` become `ExpandedConv1d`, which take fewer vectors
    but more of the array.

    Raises ``Unsupported`` for a layer that cannot be converted: its name, and what would work in its place;
    ``ShapeMismatch`` or ``WrongType`` where the model does not take the sample: which layer fails, and at what.
    """
    if not isinstance(model, nn.Module):
        raise WrongType(f"the model is {kind_of(model)}", where="convert", expected="a torch.nn.Module")
    given = sample if isinstance(sample, tuple) else (sample,)
    if not given:
        raise ShapeMismatch("it is an empty tuple", where="calibration sample", expected="a tensor for each input")
    for each in given:
        check_sample(each)
    for name, module in model.named_modules():
        _check_kind(name, module)
        _check_parameters(name, module)
    ours = copy.deepcopy(model)
    with torch.no_grad(), computing(Float()):
        with evaluating(ours):
            with _explained(ours):
                before = ours(*given)
            norms = _norms(ours, given)
            for norm, product in norms.items():
                _fold(norm, product)
        by: dict[nn.Module, nn.Module] = {norm: nn.Identity() for norm in norms}
        by |= {each: _on_array(each, expand) for each in ours.modules() if type(each) in _PRODUCTS}
        ours = _replaced(ours, by)
        with evaluating(ours):
            _check_same(before, ours(*given))
    calibrate(ours, sample, within)
    return ours


def _check_kind(name: str, module: nn.Module) -> None:
    known = type(module) in _PRODUCTS or isinstance(module, (OnArray, OnResults, *_NORMS))
    own = next((each for each, value in module.named_parameters(recurse=False) if value is not None), None)
    where = f"layer {name!r}" if name else "the model"
    if own is not None and not known:
        instead = next((word for kinds, word in _INSTEAD if isinstance(module, kinds)), None)
        raise Unsupported(f"{kind_of(module)} with the parameter {own!r} cannot be converted", where=where,
                          expected=_WORKS, todo=instead)  # fmt: skip
    mode = getattr(module, "padding_mode", "zeros")
    if mode != "zeros":
        raise Unsupported(f"padding_mode is {mode!r}", where=where, expected="'zeros'",
                          todo="Pad in a layer before it, such as torch.nn.ReflectionPad2d")  # fmt: skip


def _check_parameters(name: str, module: nn.Module) -> None:
    """Raises where a weight is made of other tensors before each run, or is not as precise as results must be."""
    own, where = dict(module.named_parameters(recurse=False)), f"layer {name!r}" if name else "the model"
    if isinstance(module, (*_PRODUCTS, *_NORMS, OnArray)):
        made = [each for each in ("weight", "bias") if each not in own and getattr(module, each, None) is not None]
        if made:
            raise Unsupported(f"the {made[0]} of {kind_of(module)} is no parameter but made of others", where=where,
                              expected="a plain layer", todo="Undo it first, as torch.nn.utils.remove_weight_norm and "
                              "torch.nn.utils.prune.remove do")  # fmt: skip
    for each, value in own.items():
        if value.dtype not in _PRECISIONS:
            raise Unsupported(f"{each} is {value.dtype}", where=where, expected="torch.float32 or torch.float64",
                              todo="Convert model.float()")  # fmt: skip


@contextmanager
def _explained(model: nn.Module) -> Generator[None]:
    """Where the model fails in this block, the error says in which layer, and what that was given."""
    running: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        running.append((names[module], module, args))

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        running.pop()

    hooks = [hook for module in names for hook in (
        module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]  # fmt: skip
    try:
        yield
    except SpikeloopError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise _failure(*running[-1], error) from error
    finally:
        for hook in hooks:
            hook.remove()


def _failure(name: str, module: nn.Module, args: tuple[Any, ...], error: Exception) -> SpikeloopError:
    given = [each for each in args if isinstance(each, Tensor)]
    where = f"layer {name!r}" if name else "the model"
    own = next((each.dtype for each in module.parameters(recurse=False)), None)
    other = next((each.dtype for each in given if own is not None and each.dtype != own), None)
    if other is not None:
        return WrongType(f"{kind_of(module)} of {own} was given {other}", where=where, expected=str(own),
                         todo="Give a calibration sample of the model's dtype")  # fmt: skip
    shapes = ", ".join(str(tuple(each.shape)) for each in given)
    return ShapeMismatch(f"{kind_of(module)} fails on the sample, here {shapes or 'no tensor'}: {error}", where=where,
                         expected="a batch of the model's inputs")  # fmt: skip


def _norms(model: nn.Module, given: tuple[Tensor, ...]) -> dict[Norm, nn.Module]:
    """Which layer made what each batch norm was given, in a run of the model."""
    made: dict[int, nn.Module] = {}
    found: dict[Norm, nn.Module] = {}
    alive: list[Any] = []  # no two tensors have one id while both live
    names = {module: name for name, module in model.named_modules()}

    def see(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        alive.append((args, output))
        if isinstance(module, _NORMS):
            found[module] = _source(module, made.get(id(args[0])), names[module])
        if not args or output is not args[0]:  # identities and dropout hand on what they were given
            made[id(output)] = module

    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(see) for module in leaves]
    try:
        model(*given)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _source(norm: Norm, source: nn.Module | None, name: str) -> nn.Module:
    where = f"layer {name!r}"
    if not isinstance(source, _PRODUCTS):
        before = "nothing that is a layer" if source is None else kind_of(source)
        raise Unsupported(f"{before} is right before this batch norm", where=where,
                          expected="a Linear, Conv1d or Conv2d, into which it can be folded")  # fmt: skip
    if norm.running_mean is None:
        raise Unsupported("it has no running statistics", where=where, expected="track_running_stats=True")
    return source


def _fold(norm: Norm, product: nn.Module) -> None:
    assert isinstance(product, _PRODUCTS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    one = torch.ones_like(norm.running_mean)
    factor = (norm.weight if norm.affine else one) / (norm.running_var + norm.eps).sqrt()
    shift = (norm.bias if norm.affine else 0 * one) - norm.running_mean * factor
    bias = shift if product.bias is None else product.bias * factor + shift
    product.weight.mul_(factor.reshape(-1, *[1] * (product.weight.ndim - 1)))
    product.bias = nn.Parameter(bias.detach().clone())


def _on_array(module: nn.Module, expand: bool) -> OnArray:
    """A layer of ours with the weight and the bias of ``module``."""
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, and thrown away
        if isinstance(module, nn.Linear):
            made: OnArray = Linear(module.in_features, module.out_features, module.bias is not None)
        else:
            assert isinstance(module, nn.Conv1d | nn.Conv2d)
            kind = Conv2d if isinstance(module, nn.Conv2d) else ExpandedConv1d if expand else Conv1d
            made = kind(module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
                        module.dilation, module.groups, module.bias is not None)  # fmt: skip
    made = made.to(module.weight.dtype).train(module.training)
    made.weight, made.bias = module.weight, module.bias
    return made


def _replaced(model: nn.Module, by: Mapping[nn.Module, nn.Module]) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in by:
                setattr(parent, name, by[child])
    return by.get(model, model)


def _check_same(before: Any, after: Any) -> None:
    """Raises where folding changed what the model computes."""
    if isinstance(before, tuple | list):
        for each, other in zip(before, after, strict=True):
            _check_same(each, other)
        return
    if not isinstance(before, Tensor) or not before.is_floating_point():
        return
    error = float((before - after).abs().max()) / (float(before.abs().max()) or 1.0)
    if not error < 1e-3:
        raise Unsupported(f"with its batch norms folded the model gives other results, by {100 * error:.2g} %",
                          where="convert", expected="layers whose outputs go to their batch norm alone",
                          todo="Fold by hand what is used twice")  # fmt: skip
