"""A network: what is to be run. Nothing in it says where, how or with which gradient."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Mapping, ValuesView
from itertools import chain
from operator import attrgetter
from typing import Any, Generic, NoReturn, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeloop.engine import _core
from spikeloop.errors import InvalidNetwork, UnknownPopulation, Unsupported, WrongType, kind_of
from spikeloop.plasticity.rule import Plastic, Program
from spikeloop.population import Population
from spikeloop.projection import Projection

Key = tuple[str, str]
"""(owner, field): ("input_to_hidden", "weight"), ("hidden", "tau_mem")."""

M = TypeVar("M", bound=nn.Module)

_version = attrgetter("_version")
_ROUNDING = 1e-6  # relative: float32 weights of w_max may lie this much beyond it


class Named(nn.ModuleDict, Generic[M]):
    """Modules of one type by name, in the order given; an unknown name raises ``UnknownPopulation``."""

    def __init__(self, modules: Mapping[str, M], where: str) -> None:
        super().__init__(dict(modules))
        self._where = where

    def __getitem__(self, key: str) -> M:
        try:
            return self._modules[key]  # pyright: ignore[reportReturnType]
        except KeyError:
            raise UnknownPopulation(
                f"there is no {key!r}", where=self._where, expected=f"one of {', '.join(self._modules)}"
            ) from None

    def values(self) -> ValuesView[M]:
        """The modules."""
        return self._modules.values()  # pyright: ignore[reportReturnType]

    def items(self) -> ItemsView[str, M]:
        """(name, module) pairs."""
        return self._modules.items()  # pyright: ignore[reportReturnType]


class Standing:
    """The tensors of a network, their memory and, in ``marks``, which and where they are, and short-term plasticity.

    With the same marks, what was ``made`` of them, by the function that made it, holds, but for the values of weights,
    whose steps are seen in views of them. Tensors that are kept alive keep their marks to themselves.
    """

    tensors: list[Tensor]
    marks: list[object]
    made: dict[object, Any]

    def __init__(self, tensors: list[Tensor], marks: list[object]) -> None:
        self.tensors, self.marks, self.made = tensors, marks, {}

    def __reduce__(self) -> tuple[type[Standing], tuple[list[Tensor], list[object]]]:
        """A copy knows nothing: its tensors are others."""
        return Standing, ([], [])


class Network(nn.Module):
    """Populations by name and the projections between them, checked as a whole.

    ``projections`` is a list, named ``source_to_target`` (a second one between the same two is ``source_to_target2``),
    or a mapping with names of your own. Any population may project to any other, itself included; inputs receive
    nothing. Populations without a neuron are the inputs. Both are kept in the order given.

    ``programs`` change weights while the network runs, each those of one or several projections; a projection's own
    ``plasticity`` is a program with the projection's name.

    Raises ``InvalidNetwork``, ``ShapeMismatch`` or ``UnknownPopulation``.
    """

    populations: Named[Population]
    projections: Named[Projection]

    def __init__(
        self,
        populations: Mapping[str, Population],
        projections: Iterable[Projection] | Mapping[str, Projection],
        programs: Mapping[str, Program] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(populations, Mapping):
            raise InvalidNetwork(
                f"the populations are {kind_of(populations)}", where="Network", expected="a mapping by name"
            )
        named = _numbered(projections)
        for name, population in populations.items():
            _check_member(name, population, Population)
        for name, projection in named.items():
            _check_member(name, projection, Projection)
            if name in populations:
                raise InvalidNetwork(
                    f"both a population and a projection are named {name!r}", where="Network", todo="Rename one of them"
                )
        self.populations = Named(populations, "populations")
        self.projections = Named(named, "projections")
        for name in ("populations", "projections"):
            self.__dict__[name] = self._modules[name]  # found at once, not by way of nn.Module.__getattr__
        for name, projection in self.projections.items():
            _check_ends(name, projection, populations)
            if self.populations[projection.target].kind is None:
                raise InvalidNetwork(
                    f"{projection.target!r} is an input", where=f"projection {name}", expected="a target with neurons"
                )
            projection.bind(self.populations[projection.source], self.populations[projection.target])
            if not self.populations[projection.source].spiking:
                raise InvalidNetwork(
                    f"{projection.source!r} never spikes", where=f"projection {name}", expected="a source of spikes"
                )
        self.programs: Mapping[str, Program] = _programs(self.projections, programs or {})
        self._standing = Standing([], [])
        self.check()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the input populations."""
        return tuple([name for name, population in self.populations._modules.items() if population.kind is None])

    def projection(self, source: str, target: str) -> Projection:
        """The projection from ``source`` to ``target``; the first, if there are several."""
        for projection in self.projections.values():
            if (projection.source, projection.target) == (source, target):
                return projection
        raise UnknownPopulation(
            f"there is no projection from {source!r} to {target!r}",
            where="projections",
            expected=f"one of {', '.join(self.projections)}",
        )

    def place(self, where: str, name: str) -> tuple[str, str]:
        """The population and the compartment (the output, where none is named) that "population.compartment" means.

        Raises ``UnknownPopulation`` where there are no such neurons; ``where`` is for its message.
        """
        population, dot, compartment = name.partition(".")
        known = population in self.populations
        structure = self.populations[population].structure if known else None
        if structure is None:
            neurons = [each for each, p in self.populations.items() if p.structure is not None]
            what = f"{population!r} is an input and has no membrane" if known else f"there is no {population!r}"
            raise UnknownPopulation(what, where=where, expected=f"one of {', '.join(neurons)}")
        sites = [site.name for site in structure.sites if site.name]
        if dot and compartment not in sites:
            raise UnknownPopulation(
                f"{population!r} has no compartment {compartment!r}",
                where=where,
                expected=f"one of {', '.join(f'{population}.{site}' for site in sites)}" if sites else repr(population),
            )
        return population, compartment if dot else structure.output

    def places(self, population: str) -> list[str]:
        """What neurons and their compartments are called where something is observed or driven; an input: nothing."""
        structure = self.populations[population].structure
        if structure is None:
            return []
        return [population, *(f"{population}.{site.name}" for site in structure.sites if site.name)]

    def quantities(self) -> dict[Key, Tensor]:
        """Every number the network consists of, in natural units and with its graph, by (owner, field).

        A projection's "weight" as it is and its "delay" in seconds; a population's neuron fields ("tau_mem",
        "tau_syn_exc", "soma_threshold", "coupling_soma_dendrite", ...).
        """
        found: dict[Key, Tensor] = {}
        for name, projection in self.projections.items():
            found[name, "weight"] = projection.weight
            found[name, "delay"] = projection.delay
        for name, population in self.populations.items():
            for field in population.fields:
                found[name, field] = getattr(population, field)
        return found

    def trainable(self) -> dict[Key, Tensor]:
        """Those of `quantities` that require a gradient: what a rule is asked about."""
        found: dict[Key, Tensor] = {}
        for modules in (self.projections, self.populations):
            for name, module in modules.items():
                for stored, value in module._parameters.items():
                    if value is not None and value.requires_grad:
                        field = stored.removeprefix("log_").removeprefix("raw_")
                        found[name, field] = value if field == stored else getattr(module, field)
        return found

    def check(self) -> Standing:
        """How it stands; raises where values, perhaps learned or loaded, make no network any more, naming the place.

        ``InvalidNetwork`` for weights, delays or neuron fields that are not finite and for impossible neurons,
        ``Unsupported`` for tensors that are not on the CPU. Cheap: `run` calls it every time.
        """
        _check_learning(self.projections, self.programs)
        standing = self.standing()
        made = standing.made
        if _flat not in made:
            self._check_tensors()
            made[_flat] = _flat(self.projections)
        if made[_flat] is None or not _core.finite(made[_flat]):
            for name, projection in self.projections.items():
                _check_finite(projection.weight, name, "weight")
        return standing

    def _check_tensors(self) -> None:
        """`check` of all that holds for as long as they stand."""
        for name, projection in self.projections.items():
            for field, value in projection._parameters.items():
                if value is not None:
                    _check_place(value, f"projection {name}")
                    _check_finite(value, name, field)
        for name, population in self.populations.items():
            for tensor in chain(population._parameters.values(), population._buffers.values()):
                if tensor is not None:
                    _check_place(tensor, f"population {name}")
            population.check(name)

    def standing(self) -> Standing:
        """How its tensors stand now, apart from what is in the weights: the same object for as long as they do."""
        projections = self.projections.values()
        weights: list[Tensor] = []
        others: list[Tensor] = []
        for module in (*projections, *self.populations.values()):
            for group in (module._parameters, module._buffers):
                for name, tensor in group.items():
                    if tensor is not None:
                        (weights if name == "weight" else others).append(tensor)
        tensors = weights + others
        marks: list[object] = [*map(id, tensors), *map(Tensor.data_ptr, tensors), *map(_version, others)]
        trained = [tensor for tensor in others if tensor.requires_grad]  # fused optimisers bump nothing
        marks += [tensor.detach().cpu().numpy().tobytes() for tensor in trained]
        marks += [projection.short_term for projection in projections]
        if marks != self._standing.marks:
            memory = [tensor.detach() for tensor in tensors]  # kept, or another tensor could come to lie there
            self._standing = Standing([*tensors, *memory], marks)
        return self._standing

    def forward(self, *_: object, **__: object) -> NoReturn:
        """A network is not a function: raises ``Unsupported``, which says what to call."""
        raise Unsupported(
            "a Network says what is to be run, not where",
            where="Network.forward",
            todo="Call run(network, drive, duration), or Experiment(network, duration)(drive)",
        )


def _numbered(projections: Iterable[Projection] | Mapping[str, Projection]) -> dict[str, Projection]:
    if isinstance(projections, Mapping):
        return dict(cast("Mapping[str, Projection]", projections))
    named: dict[str, Projection] = {}
    for projection in projections:
        name = projection.name if isinstance(projection, Projection) else "projection"
        number, taken = 1, name
        while taken in named:
            number += 1
            taken = f"{name}{number}"
        named[taken] = projection
    return named


def _programs(projections: Named[Projection], given: Mapping[str, Program]) -> Mapping[str, Program]:
    """All programs by name, those of single projections first; raises where they are none of this network."""
    found = {name: p.plasticity.program(name) for name, p in projections.items() if p.plasticity is not None}
    owner: dict[str, str] = dict.fromkeys(found, "its own plasticity")
    for name, program in found.items():
        _check_plastic(name, projections[name], program.projections[name])
    for name, program in given.items():
        where = f"program {name!r}"
        if not isinstance(program, Program):
            raise WrongType(f"it is {kind_of(program)}", where=where, expected="Program(kernel, projections, ...)")
        if name in found:
            raise InvalidNetwork("a projection's plasticity has the same name", where=where, todo="Rename the program")
        for projection, plastic in program.projections.items():
            if projection in owner:
                raise InvalidNetwork(f"{projection!r} is changed by {owner[projection]}, too", where=where,
                                     expected="one program for each projection")  # fmt: skip
            owner[projection] = where
            _check_plastic(projection, projections[projection], plastic)
    return {**found, **given}


def _check_learning(projections: Named[Projection], programs: Mapping[str, Program]) -> None:
    for program in programs.values():
        for name, plastic in program.projections.items():
            _check_plastic(name, projections[name], plastic)


def _check_plastic(name: str, projection: Projection, plastic: Plastic) -> None:
    where = f"projection {name}"
    synapses = projection.synapses
    if synapses is not None and projection.weight.shape != synapses.source.shape:
        raise InvalidNetwork("its synapses share weights, and each would learn its own", where=where,
                             expected="a dense or sparse projection", todo="Leave plasticity out")  # fmt: skip
    low, high = (float(side) for side in projection.weight.detach().aminmax()) if projection.weight.numel() else (0, 0)
    if low < plastic.lowest * plastic.w_max or high > plastic.w_max * (1 + _ROUNDING):
        raise InvalidNetwork(
            f"the weights are {low:g} to {high:g}",
            where=where,
            expected=f"{plastic.lowest * plastic.w_max:g} to w_max, which is {plastic.w_max:g}",
            todo="Raise w_max, or let weights be negative: signed=True",
        )


def _check_member(name: object, module: object, kind: type[nn.Module]) -> None:
    if not isinstance(module, kind):
        raise InvalidNetwork(f"{name!r} is {kind_of(module)}", where="Network", expected=f"a {kind.__name__}")
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name):
        raise InvalidNetwork(
            f"{name!r} cannot be a name",
            where="Network",
            expected="a word without dots that torch does not use itself",
        )


def _check_ends(name: str, projection: Projection, populations: Mapping[str, Population]) -> None:
    for end in (projection.source, projection.target):
        if end not in populations:
            raise UnknownPopulation(
                f"there is no {end!r}",
                where=f"projection {name}",
                expected=f"one of {', '.join(populations)}",
            )


def _check_place(tensor: Tensor, where: str) -> None:
    if tensor.device.type != "cpu":
        raise Unsupported(f"its tensors are on {tensor.device}", where=where, todo="Move the network to the CPU")


def _flat(projections: Named[Projection]) -> list[NDArray[np.floating[Any]]] | None:
    """All weights as flat views, which see an optimiser's steps; None where there is no such view."""
    weights = [projection.weight.detach() for projection in projections.values()]
    if not all(weight.is_contiguous() and weight.dtype in (torch.float32, torch.float64) for weight in weights):
        return None
    return [weight.view(-1).numpy() for weight in weights]


def _check_finite(parameter: Tensor, name: str, field: str) -> None:
    values = parameter.detach()
    if not bool(values.isfinite().all()):
        kind = "NaN" if bool(torch.isnan(values).any()) else "infinite"
        raise InvalidNetwork(f"{field} has {kind} values", where=f"projection {name}", expected="finite numbers")
