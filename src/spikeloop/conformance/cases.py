"""What contracts are tried on, and how broken ones are reported."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikeloop.errors import ShapeMismatch, SpikeloopError, Unsupported
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.neuron import LI, LIF, AdEx, Compartment, Compartments, Plateau, Sodium
from spikeloop.population import Population
from spikeloop.projection import Projection
from spikeloop.protocols import Substrate, Trial

T = TypeVar("T")
BATCH = 3


@dataclass(frozen=True)
class Breach:
    """One broken contract: which, on which network, and what was found instead."""

    contract: str
    case: str
    found: str

    def __str__(self) -> str:
        return f"{self.contract} ({self.case}): {self.found}"


class ConformanceError(SpikeloopError, AssertionError):
    """Contracts that are broken; ``breaches`` holds one `Breach` for each thing that was found."""

    def __init__(self, subject: str, breaches: Sequence[Breach]) -> None:
        self.breaches: tuple[Breach, ...] = tuple(breaches)
        listed = "".join(f"\n- {breach}" for breach in self.breaches)
        number = len({breach.contract for breach in self.breaches})
        super().__init__(f"{number} contract{'s are' if number > 1 else ' is'} broken{listed}", where=subject)


@dataclass(frozen=True, eq=False)
class Case:
    """A network and a drive; ``before`` holds copies of all their numbers, made before anything was tried."""

    name: str
    network: Network
    drive: Mapping[str, Events]
    duration: float
    before: Mapping[str, Tensor] = field(default_factory=dict)

    def changed(self) -> list[str]:
        """The names of numbers that are not what they were before."""
        return differences(self.before.items(), holdings(self.trial()).items())

    @property
    def batch(self) -> int:
        """The number of samples."""
        return len(next(iter(self.drive.values())))

    @property
    def neurons(self) -> dict[str, Population]:
        """The populations that are no inputs."""
        return {name: p for name, p in self.network.populations.items() if p.kind is not None}

    def trial(self, **changes: Any) -> Trial:
        """The plain trial of it, with some fields changed."""
        plain: dict[str, Any] = {"network": self.network, "drive": self.drive, "duration": self.duration, "number": 0}
        return Trial(**(plain | changes))


def cases(
    network: Network | None,
    drive: Events | Mapping[str, Events] | None,
    duration: float,
    fields: Collection[str] | None = None,
    substrate: Substrate | None = None,
) -> list[Case]:
    """The network given, or those that come along: a chain with a readout, and a loop, both with delays.

    In the latter only ``fields`` are trainable, or everything. Where ``substrate`` refuses delays (it raises
    ``Unsupported``), there are none.
    """
    if network is None:
        own = {"chain": _chain, "loop": _loop}
        return [_own(name, make, duration, fields, substrate) for name, make in own.items()]
    if isinstance(drive, Events):
        if len(network.inputs) != 1:
            raise ShapeMismatch(f"plain Events for {len(network.inputs)} inputs", expected="a mapping by population")
        drive = {network.inputs[0]: drive}
    return [_untouched("the network given", network, drive or random_drive(network, duration), duration)]


def _own(
    name: str,
    make: Callable[[bool], Network],
    duration: float,
    fields: Collection[str] | None,
    substrate: Substrate | None,
) -> Case:
    """A case of a network that comes along, without delays where the substrate has none."""
    for delays in (True, False):
        network = _frozen(make(delays), fields)
        case = _untouched(name, network, random_drive(network, duration), duration)
        if not delays or substrate is None or refusal(substrate, case) is None:
            return case
    raise AssertionError


def structured_case(duration: float) -> Case:
    """The case of `structured`, delays and all."""
    network = structured()
    return _untouched("structured", network, random_drive(network, duration), duration)


def refusal(substrate: Substrate, case: Case) -> str | None:
    """How it says that it cannot run this; None for anything else that is wrong: the contracts find it."""
    try:
        substrate.run(case.trial())
    except Unsupported as error:
        return f"{case.name}: {error}"
    except Exception:
        return None
    return None


def _frozen(network: Network, fields: Collection[str] | None) -> Network:
    """The network, with nothing trainable but these fields."""
    for module in (*network.projections.values(), *network.populations.values()):
        for stored, parameter in module.named_parameters():
            field = stored.removeprefix("log_").removeprefix("raw_")
            parameter.requires_grad_(fields is None or field in fields)
    return network


def _untouched(name: str, network: Network, drive: Mapping[str, Events], duration: float) -> Case:
    case = Case(name, network, drive, duration)
    return dataclasses.replace(case, before=copied(holdings(case.trial())))


def breaches(contracts: Mapping[str, Callable[[T], Iterator[str]]], subject: T, case: str) -> list[Breach]:
    """Try every contract; an exception breaks the contract it comes from."""
    found = [(contract, tried(look, subject)) for contract, look in contracts.items()]
    return [Breach(contract, case, what) for contract, whats in found for what in whats]


def tried(look: Callable[[T], Iterator[str]], subject: T) -> list[str]:
    """What ``look`` finds, an exception included."""
    found: list[str] = []
    try:
        found.extend(look(subject))
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


def random_drive(network: Network, duration: float, batch: int = BATCH, each: int = 3) -> dict[str, Events]:
    """``each`` events for every input unit and sample, in the first 0.6 of the run; the same in every call."""
    generator = torch.Generator().manual_seed(1)
    drive: dict[str, Events] = {}
    for name in network.inputs:
        size = network.populations[name].size
        time = 0.6 * duration * torch.rand(batch, size * each, dtype=torch.float64, generator=generator)
        drive[name] = Events.from_padded(time, torch.arange(size).repeat(batch, each), size)
    return drive


def empty_drive(network: Network, batch: int) -> dict[str, Events]:
    """Samples without events."""
    none: list[list[float]] = [[] for _ in range(batch)]
    return {name: Events.from_lists(none, none, network.populations[name].size) for name in network.inputs}


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a record (or a part of one) with its place: ``spikes.hidden.time``; private fields left out."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors(part, f"{name}.{key}" if name else str(key))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            if not each.name.startswith("_"):
                yield from tensors(getattr(value, each.name), f"{name}.{each.name}" if name else each.name)


def differences(one: Iterable[tuple[str, Tensor]], other: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of tensors that are not the same, bit for bit, in both."""
    before, after = dict(one), dict(other)
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not same(before[name], after[name])
    )


def same(one: Tensor, other: Tensor) -> bool:
    """Equal in shape, dtype and every bit."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.detach(), other.detach())


def holdings(trial: Trial) -> dict[str, Tensor]:
    """All numbers of a trial's network and drive."""
    quantities = {".".join(key): value.detach() for key, value in trial.network.quantities().items()}
    return quantities | {f"drive.{name}": value for name, value in tensors(trial.drive)}


def copied(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers in memory of their own."""
    return {name: value.detach().clone() for name, value in held.items()}


def _trainable(value: float, size: int) -> nn.Parameter:
    """``value``, a few per cent different for each neuron."""
    return nn.Parameter(value * (1 + 0.05 * torch.cos(torch.arange(size, dtype=torch.float64))))


def _lif(size: int) -> Population:
    values = {"tau_mem": 10e-3, "tau_syn": 5e-3, "threshold": 1.0, "leak": 0.02, "reset": -0.1, "refractory": 1e-3}
    return Population(size, LIF(**{name: _trainable(value, size) for name, value in values.items()}))


def _weight(sources: int, targets: int, sum_of_inputs: float, seed: int) -> Tensor:
    spread = torch.rand(sources, targets, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (0.5 + spread) * sum_of_inputs / math.sqrt(sources)


def _chain(delays: bool = True) -> Network:
    li = LI(_trainable(12e-3, 2), _trainable(5e-3, 2), _trainable(0.1, 2))
    populations = {"input": Population(4), "hidden": _lif(5), "output": Population(2, li)}
    delay = nn.Parameter(torch.tensor(1e-3, dtype=torch.float64))
    links = [
        Projection("input", "hidden", _weight(4, 5, 1.6, 0), delay if delays else 0.0),
        Projection("hidden", "output", _weight(5, 2, 0.7, 1)),
    ]
    return Network(populations, links)


def structured() -> Network:
    """AdEx neurons in a loop, and behind them neurons with a dendrite that has plateaus: what is run in steps."""
    adex = AdEx(
        _trainable(10e-3, 5), _trainable(5e-3, 5), _trainable(1.3, 5), 0.02, -0.1, _trainable(1e-3, 5), 0.1,
        _trainable(0.8, 5), _trainable(30e-3, 5), 0.1, _trainable(0.1, 5),
    )  # fmt: skip
    soma = Sodium(_trainable(1.0, 3), -0.1, _trainable(1e-3, 3))
    dendrite = Plateau(1.0, _trainable(1.6, 3), _trainable(8e-3, 3))
    tree = Compartments(
        {
            "soma": Compartment(_trainable(10e-3, 3), _trainable(5e-3, 3), spike=soma),
            "dendrite": Compartment(_trainable(15e-3, 3), 5e-3, spike=dendrite),
        },
        {("soma", "dendrite"): _trainable(8e-3, 3)},
    )
    populations = {"input": Population(4), "hidden": Population(5, adex), "output": Population(3, tree)}
    links = [
        Projection("input", "hidden", _weight(4, 5, 1.8, 0), 1e-3),
        Projection("hidden", "hidden", -_weight(5, 5, 0.3, 4), 2e-3),
        Projection("hidden", "output", _weight(5, 3, 1.6, 1)),
        Projection("hidden", "output", _weight(5, 3, 1.9, 6), compartment="dendrite"),
    ]
    return Network(populations, links)


def _loop(delays: bool = True) -> Network:
    populations = {"input": Population(4), "hidden": _lif(4), "output": _lif(2)}
    delay = nn.Parameter(1e-3 * (1 + torch.rand(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))))
    links = [
        Projection("input", "hidden", _weight(4, 4, 1.8, 3)),
        Projection("hidden", "hidden", -_weight(4, 4, 0.4, 4), delay if delays else 0.0),
        Projection("hidden", "output", _weight(4, 2, 1.6, 5)),
    ]
    return Network(populations, links)
