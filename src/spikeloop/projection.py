"""A projection: the synapses from one population to another (or to itself)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self, TypedDict, Unpack

import torch
from torch import Tensor, nn

from spikeloop.errors import InvalidNetwork, ShapeMismatch, Unsupported, WrongType, kind_of
from spikeloop.initial import Initialiser
from spikeloop.plasticity.rule import Plasticity
from spikeloop.plasticity.short_term import ShortTerm
from spikeloop.population import Exact, Population

_SMALLEST_DELAY = 1e-3  # in units of tau_syn: a trainable delay of zero would have no gradient


class Onto(TypedDict, total=False):
    """Where on its target a projection ends; what is left out is the only receptor, the output compartment."""

    receptor: str | None
    compartment: str | None
    plasticity: Plasticity | None
    short_term: ShortTerm | None


@dataclass(frozen=True, eq=False)
class Synapses:
    """A list of K synapses: synapse k leads from ``source[k]`` to ``target[k]`` with ``weight.flatten()[index[k]]``.

    All three are (K,) int64. Several synapses may share one weight (a convolution).
    """

    source: Tensor
    target: Tensor
    index: Tensor
    source_size: int
    target_size: int


class Projection(Exact):
    """All-to-all synapses from population ``source`` to population ``target`` (names; they may be the same).

    ``weight`` is (n_source, n_target): row i is what one spike of source unit i adds to the targets' currents. Given as
    a tensor it is copied, as ``nn.Parameter`` it is kept, as an initialiser (`Normal`, `Uniform`) it is drawn in units
    of the postsynaptic potential's peak (float32) when the `Network` is built. It is trainable:
    ``requires_grad_(False)`` freezes it.

    ``delay`` in seconds, from spike to arrival: a number (or a tensor of shape ()), one per source unit (n_source, 1),
    or one per synapse: (n_source, n_target), for sparse projections (K,). A delay given as ``nn.Parameter`` is
    trainable and stored as ``raw_delay``: ``delay = softplus(raw_delay) * delay_scale`` with the target's mean tau_syn
    at construction as the scale; it starts at no less than a thousandth of that.

    ``receptor`` and ``compartment``: where on the targets it ends, by name; left out, the only receptor and the output
    compartment. Initialisers draw in units of the peak there (`Population.psp_peak`).

    ``plasticity`` is a rule that changes the weights while the network runs.

    Other connectivity: `Projection.sparse`, `Projection.conv2d`; from torch: `Projection.from_linear`.
    """

    delay: Tensor
    delay_scale: Tensor
    raw_delay: nn.Parameter
    weight: nn.Parameter

    def __init__(  # noqa: PLR0913
        self,
        source: str,
        target: str,
        weight: Tensor | Initialiser,
        delay: float | Tensor = 0.0,
        *,
        receptor: str | None = None,
        compartment: str | None = None,
        plasticity: Plasticity | None = None,
        short_term: ShortTerm | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.target = target
        self.receptor = receptor
        self.compartment = compartment
        self.place: tuple[str, str] = ("", "")  # (compartment, receptor), known once it is part of a network
        self.shape: tuple[int, int] | None = None  # (n_source, n_target), known once it is part of a network
        self.plasticity = plasticity
        self.short_term = short_term
        self._initial: tuple[int, ...] | None = None  # the shape to draw, where it is not (n_source, n_target)
        self._initialiser: Initialiser | None = None
        self._given_delay: float | Tensor | None = delay
        self._sizes: tuple[int | None, int] | None = None  # (source or None: any, target) that given synapses need
        self._synapses: tuple[tuple[int, ...], Synapses] | None = None
        if isinstance(weight, Tensor) and weight.is_complex():
            raise InvalidNetwork(
                "the weights are complex", where=f"projection {source} to {target}", expected="real numbers"
            )
        if isinstance(weight, nn.Parameter):
            self.weight = weight
        elif isinstance(weight, Tensor):
            if not weight.is_floating_point():
                weight = weight.to(torch.float32)
            self.weight = nn.Parameter(weight.detach().clone())
        elif hasattr(weight, "amplitude"):
            self._initialiser = weight
        else:
            raise InvalidNetwork(
                f"the weight is a {type(weight).__name__}",
                where=f"projection {source} to {target}",
                expected="a tensor (source, target), an nn.Parameter or an initialiser such as Normal(0.2, 0.1)",
            )

    @classmethod
    def sparse(
        cls,
        source: str,
        target: str,
        pre: Tensor,
        post: Tensor,
        weight: Tensor | Initialiser,
        delay: float | Tensor = 0.0,
        **onto: Unpack[Onto],
    ) -> Self:
        """Synapse k leads from unit ``pre[k]`` to unit ``post[k]`` with ``weight[k]``: all (K,), any order, repeats
        allowed.

        The indices are part of the state_dict.
        """
        made = cls(source, target, weight, delay, **onto)
        pre, post = (torch.as_tensor(side).detach().to(torch.int64, copy=True) for side in (pre, post))
        if pre.ndim != 1 or pre.shape != post.shape:
            raise ShapeMismatch(
                f"pre is {tuple(pre.shape)}, post is {tuple(post.shape)}",
                where=f"projection {source} to {target}",
                expected="two lists of the same length",
            )
        made._initial = tuple(pre.shape)
        made.register_buffer("pre", pre)
        made.register_buffer("post", post)
        return made

    @classmethod
    def conv2d(
        cls,
        source: str,
        target: str,
        kernel: Tensor,
        input_shape: tuple[int, int, int],
        stride: int = 1,
        padding: int = 0,
        delay: float | Tensor = 0.0,
        **onto: Unpack[Onto],
    ) -> Self:
        """A convolution, as ``torch.nn.functional.conv2d`` has it: kernel (C_out, C_in, kh, kw), input (C_in, H, W).

        Units are counted channel, row, column: unit ``(c * H + y) * W + x``. The target population has C_out * H_out *
        W_out units. ``weight`` is the kernel: every place shares it.
        """
        made = cls(source, target, kernel, delay, **onto)
        if kernel.ndim != 4 or len(input_shape) != 3 or kernel.shape[1] != input_shape[0]:
            raise ShapeMismatch(
                f"the kernel is {tuple(kernel.shape)}, the input {tuple(input_shape)}",
                where=f"projection {source} to {target}",
                expected="a kernel (C_out, C_in, kh, kw) over an input (C_in, H, W)",
            )
        pre, post, index, size = _convolution(tuple(kernel.shape), input_shape, stride, padding)
        if not size:
            raise ShapeMismatch(
                "the kernel is larger than the padded input",
                where=f"projection {source} to {target}",
                expected=f"kh, kw of at most {input_shape[1] + 2 * padding}, {input_shape[2] + 2 * padding}",
            )
        made._sizes = (math.prod(input_shape), size)
        for name, value in (("pre", pre), ("post", post), ("index", index)):
            made.register_buffer(name, value, persistent=False)
        return made

    @classmethod
    def from_linear(
        cls, source: str, target: str, linear: nn.Linear, delay: float | Tensor = 0.0, **onto: Unpack[Onto]
    ) -> Self:
        """A projection with the weights of ``linear``, transposed to (source, target).

        Raises ``InvalidNetwork`` for a bias other than zero: spiking synapses have none.
        """
        if linear.bias is not None and bool(linear.bias.detach().any()):
            raise InvalidNetwork(
                "the Linear has a bias",
                where=f"projection {source} to {target}",
                expected="nn.Linear(..., bias=False)",
                todo="add an input unit that spikes in every sample and give it the bias as its weights",
            )
        return cls(source, target, linear.weight.detach().t().contiguous(), delay, **onto)

    @property
    def synapses(self) -> Synapses | None:
        """None where all units are connected (dense), else the list of synapses; the same object until it changes."""
        buffers = self._buffers
        pre, post = buffers.get("pre"), buffers.get("post")
        if pre is None or post is None:
            return None
        versions = (id(pre), pre._version, id(post), post._version)
        if self._synapses is None or self._synapses[0] != versions:
            index = buffers.get("index")
            index = torch.arange(len(pre)) if index is None else index
            source_size, target_size = self.shape or self._sizes or (0, 0)
            self._synapses = versions, Synapses(pre, post, index, source_size or 0, target_size)
        return self._synapses[1]

    @property
    def plasticity(self) -> Plasticity | None:
        """A rule that changes its weights during a run; a network keeps the one that it was made with.

        Raises ``WrongType`` when it is set to something else, ``Unsupported`` within a network.
        """
        return self._plasticity

    @plasticity.setter
    def plasticity(self, given: Plasticity | None) -> None:
        where = f"projection {self.source} to {self.target}"
        if given is not None and not isinstance(given, Plasticity):
            raise WrongType(
                f"the plasticity is {kind_of(given)}", where=where, expected="Plasticity(kernel, w_max=...)"
            )
        if self.shape is not None:
            raise Unsupported("it is part of a network, whose rules are known", where=where,
                              expected="plasticity= where it is made", todo="Make the network anew")  # fmt: skip
        self._plasticity = given

    @property
    def short_term(self) -> ShortTerm | None:
        """How its events wear on the sources' resources; another one holds from the next run on.

        Raises ``WrongType`` or ``ShapeMismatch`` when it is set to what cannot be.
        """
        return self._short_term

    @short_term.setter
    def short_term(self, given: ShortTerm | None) -> None:
        self._check_short_term(given)
        self._short_term = given

    @property
    def name(self) -> str:
        """``source_to_target``."""
        return f"{self.source}_to_{self.target}"

    def bind(self, source: Population, target: Population) -> None:
        """Make it a projection between these two: draw the weight, check every shape, fix the delay's unit.

        Called by `Network`. Raises ``ShapeMismatch`` or ``InvalidNetwork``.
        """
        self.shape = (source.size, target.size)
        self._synapses = None
        assert target.structure is not None
        self.place = target.structure.place(f"projection {self.name}", self.compartment, self.receptor)
        if self._initialiser is not None and self._parameters.get("weight") is None:
            shape = self.shape if self._initial is None else self._initial
            peak = target.psp_peak(*self.place)
            if self._initial is not None and peak.ndim:
                peak = peak[self._buffers["post"]]
            self.weight = nn.Parameter((self._initialiser.amplitude(*shape) / peak).to(torch.float32))
        self._check_shapes()
        if self._given_delay is not None:
            self._store_delay(self._given_delay, target)
            self._given_delay = None

    def _check_shapes(self) -> None:
        assert self.shape is not None
        where = f"projection {self.name}"
        self._check_short_term(self.short_term)
        if self._sizes is not None:
            if self._sizes != self.shape:
                raise ShapeMismatch(
                    f"the convolution leads from {self._sizes[0]} to {self._sizes[1]} units",
                    where=where,
                    expected=f"{self.shape[0]} and {self.shape[1]}, the populations' sizes",
                )
            return
        pre, post = self._buffers.get("pre"), self._buffers.get("post")
        expected = self.shape if pre is None else tuple(pre.shape)
        if tuple(self.weight.shape) != expected:
            raise _wrong_weight(where, tuple(self.weight.shape), expected)
        for side, size in ((pre, self.shape[0]), (post, self.shape[1])):
            if side is not None and len(side) and (int(side.min()) < 0 or int(side.max()) >= size):
                raise InvalidNetwork(
                    f"a synapse names unit {int(side.max()) if int(side.min()) >= 0 else int(side.min())}",
                    where=where,
                    expected=f"units from 0 to {size - 1}",
                )

    def _check_short_term(self, given: object) -> None:
        if given is not None and not isinstance(given, ShortTerm):
            raise WrongType(
                f"the short-term plasticity is {kind_of(given)}",
                where=f"projection {self.source} to {self.target}",
                expected="ShortTerm(utilisation, tau)",
            )
        if given is None or self.shape is None:
            return
        for name in ("utilisation", "tau"):
            count = len(given.each(name))
            if count not in (1, self.shape[0]):
                raise ShapeMismatch(f"the short-term {name} has {count} numbers", where=f"projection {self.name}",
                                    expected=f"one, or {self.shape[0]}, one per source unit")  # fmt: skip

    def _store_delay(self, given: float | Tensor, target: Population) -> None:
        assert self.shape is not None
        value = torch.as_tensor(given, dtype=None if isinstance(given, Tensor) else torch.float64).detach()
        pre = self._buffers.get("pre")
        per_synapse = self.shape if pre is None else tuple(pre.shape)
        where = f"projection {self.name}"
        if tuple(value.shape) not in ((), (self.shape[0], 1), per_synapse):
            raise ShapeMismatch(
                f"the delay has shape {tuple(value.shape)}",
                where=where,
                expected=f"(), one per source unit {(self.shape[0], 1)} or one per synapse {per_synapse}",
            )
        if not bool((value.isfinite() & (value >= 0)).all()):
            raise InvalidNetwork("a delay is negative or not finite", where=where, expected="delays >= 0, in seconds")
        if not isinstance(given, nn.Parameter):
            self.register_buffer("delay", value.to(torch.float64, copy=True))
            return
        scale = target.time_constants(*self.place)[1].mean()
        relative = (value.to(torch.float64) / scale).clamp_min(_SMALLEST_DELAY)
        raw = relative + torch.log(-torch.expm1(-relative))  # the inverse of softplus
        self.register_buffer("delay_scale", scale)
        self.raw_delay = nn.Parameter(raw.to(value.dtype), requires_grad=given.requires_grad)

    def __getattr__(self, name: str) -> Any:
        if name == "delay":
            raw = self._parameters.get("raw_delay")
            if raw is not None:
                return nn.functional.softplus(raw.to(torch.float64)) * self.delay_scale
        if name == "weight" and self._parameters.get("weight") is None:
            raise AttributeError(f"projection {self.name} has no weight yet: it is drawn when its Network is built")
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        """``input -> hidden, weight (5, 120), delay 1 ms (trained)``"""
        parts = [f"{self.source} -> {self.target}"]
        if self._parameters.get("weight") is not None:
            frozen = "" if self.weight.requires_grad else " (frozen)"
            parts.append(f"weight {tuple(self.weight.shape)}{frozen}")
        parts += [f"{what} {name}" for what, name in zip(("compartment", "receptor"), self.place, strict=True) if name]
        pre = self._buffers.get("pre")
        if pre is not None:
            parts.append(f"{len(pre)} synapses")
        if self._given_delay is None:
            low, high = (float(side) * 1e3 for side in self.delay.detach().aminmax())
            trained = " (trained)" if "raw_delay" in self._parameters else ""
            if high or trained:
                parts.append(f"delay {low:.4g}{'' if low == high else f'..{high:.4g}'} ms{trained}")
        if self.plasticity is not None:
            parts.append("plastic")
        if self.short_term is not None:
            parts.append("facilitating" if self.short_term.facilitating else "depressing")
        return ", ".join(parts)


def _wrong_weight(where: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> ShapeMismatch:
    transposed = len(expected) == 2 and shape == expected[::-1]
    return ShapeMismatch(
        f"the weight has shape {shape}" + (", which is the transpose" if transposed else ""),
        where=where,
        expected=f"{expected}: " + ("weight is (source, target)" if len(expected) == 2 else "one weight per synapse"),
        todo="Transpose it; Projection.from_linear converts an nn.Linear (out, in)" if transposed else None,
    )


def _convolution(
    kernel: tuple[int, ...], input_shape: tuple[int, int, int], stride: int, padding: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """(source, target, index, number of target units) of every synapse, in the order of the targets."""
    channels_out, channels_in, kernel_height, kernel_width = kernel
    _, height, width = input_shape
    height_out = (height + 2 * padding - kernel_height) // stride + 1
    width_out = (width + 2 * padding - kernel_width) // stride + 1
    if min(height_out, width_out) < 1:
        return (*(torch.empty(0, dtype=torch.int64) for _ in range(3)), 0)  # type: ignore[return-value]
    sides = (channels_out, height_out, width_out, channels_in, kernel_height, kernel_width)
    c_out, y_out, x_out, c_in, i, j = torch.meshgrid(*(torch.arange(side) for side in sides), indexing="ij")
    y, x = y_out * stride - padding + i, x_out * stride - padding + j
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    source = (c_in * height + y) * width + x
    target = (c_out * height_out + y_out) * width_out + x_out
    index = ((c_out * channels_in + c_in) * kernel_height + i) * kernel_width + j
    return source[inside], target[inside], index[inside], channels_out * height_out * width_out
