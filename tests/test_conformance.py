"""Every contract of a substrate is kept by what we ship, and each breach of one is found and named."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import pytest
import torch

from spikeloop import LI, LIF, Events, Every, Ideal, Network, Normal, Observe, Peak, Record, Samples, Trial
from spikeloop import Population as Pop
from spikeloop import Projection as Link
from spikeloop.conformance import ConformanceError, check_substrate, structured
from spikeloop.conformance import substrate as substrates
from spikeloop.errors import ShapeMismatch, Unsupported


def own() -> tuple[Network, Events]:
    """A network that has not all things trainable, float32 weights and a fixed delay for each synapse."""
    torch.manual_seed(0)
    populations = {"pixels": Pop(6), "middle": Pop(7, LIF(20e-3, 5e-3)), "last": Pop(2, LI(20e-3, 5e-3))}
    delay = 2e-3 * torch.rand(7, 2)
    links = [Link("pixels", "middle", Normal(0.6, 0.2)), Link("middle", "last", Normal(0.2, 0.2), delay)]
    return Network(populations, links), Events.from_padded(0.03 * torch.rand(4, 20), torch.randint(6, (4, 20)), 6)


def test_what_we_ship_keeps_every_contract() -> None:
    assert check_substrate(Ideal()) == ()


def test_on_a_network_of_ones_own() -> None:
    network, drive = own()
    check_substrate(Ideal(), network, drive, 40e-3)
    check_substrate(Ideal(), network, duration=40e-3)
    two = Network({"a": Pop(2), "b": Pop(2), "out": Pop(1, LIF(1e-2, 5e-3))}, [Link("a", "out", torch.ones(2, 1))])
    check_substrate(Ideal(), two)
    with pytest.raises(ShapeMismatch, match="2 inputs"):
        check_substrate(Ideal(), two, drive)


Alter = Callable[[Trial, Record], Record]


@dataclass
class Spoilt:
    """`Ideal` with something done to the trial before, to the record after, or to the offer."""

    record: Alter = lambda trial, record: record
    trial: Callable[[Trial], Trial] = lambda trial: trial
    offer: Callable[[Observe], Observe] = lambda offer: offer

    def offers(self, network: Network) -> Observe:
        return self.offer(Ideal().offers(network))

    def run(self, trial: Trial) -> Record:
        return self.record(trial, Ideal().run(self.trial(trial)))


class Speechless:
    def run(self, trial: Trial) -> Record:
        return Ideal().run(trial)


def hidden(change: Callable[[Events], Events]) -> Alter:
    return lambda trial, record: replace(record, spikes={**record.spikes, "hidden": change(record.spikes["hidden"])})


def trusted(events: Events, **parts: object) -> Events:
    given = {"time": events.time, "unit": events.unit, "start": events.start, "size": events.size} | parts
    return Events._trusted(**given)  # type: ignore[arg-type]


def sampled(change: Callable[[Samples], Samples]) -> Alter:
    return lambda trial, record: replace(record, membrane={n: change(s) for n, s in record.membrane.items()})


def peaks(change: Callable[[Peak], Peak]) -> Alter:
    return lambda trial, record: replace(record, peak={n: change(p) for n, p in record.peak.items()})


def without_neurons(trial: Trial) -> Trial:
    membrane = {
        name: Every(given.period) if isinstance(given, Every) else given
        for name, given in trial.observe.membrane.items()
    }
    return replace(trial, observe=replace(trial.observe, membrane=membrane))


def on_its_own_grid(trial: Trial) -> Trial:
    return replace(trial, observe=replace(trial.observe, membrane=dict.fromkeys(trial.observe.membrane, 1e-3)))


def clamped(trial: Trial) -> Trial:
    for projection in trial.network.projections.values():
        projection.weight.clamp_(-0.1, 0.1)
    return trial


def refuses_nothing(trial: Trial) -> Trial:
    if not all(len(events.time) for events in trial.drive.values()):
        raise IndexError("max of nothing")
    return trial


def refuses_a_start(trial: Trial) -> Trial:
    if trial.start is not None:
        raise NotImplementedError("from rest only")
    return trial


def noisy(trial: Trial, record: Record) -> Record:
    return hidden(lambda e: trusted(e, time=e.time * (1 - 1e-6 * torch.rand(()).item())))(trial, record)


def in_the_way(trial: Trial, record: Record) -> Record:
    """Observing costs the last spikes."""
    return hidden(lambda e: e[:0].cat([e[:1], e[1:][[0]], e[[0]]]))(trial, record) if trial.observe.peak else record


def graph(trial: Trial, record: Record) -> Record:
    return replace(record, executed={name: p.weight for name, p in trial.network.projections.items()})


calls = count()
AFTER = 61e-3

BROKEN_SUBSTRATES = {
    "offers is missing": (Speechless(), "it has offers", "it lacks one of the two"),
    "run returns a dict": (Spoilt(lambda t, r: vars(r)), "it has offers", "run returns a dict"),  # type: ignore[arg-type,return-value]
    "an input has no membrane": (
        Spoilt(offer=lambda o: Observe({**o.membrane, "input": 1e-3}, o.peak, o.state)),
        "offers names",
        "'input' is offered",
    ),
    "an offer that changes": (
        Spoilt(offer=lambda o: Observe(o.membrane, o.peak, next(calls) % 2 == 0)),
        "offers names",
        "something else",
    ),
    "a population is missing": (
        Spoilt(lambda t, r: replace(r, spikes={n: e for n, e in r.spikes.items() if n != "hidden"})),
        "spikes are Events",
        r"spikes of \['input'",
    ),
    "unsorted": (Spoilt(hidden(lambda e: trusted(e, time=e.time.flip(0)))), "spikes are Events", "follows a later"),
    "a unit too many": (Spoilt(hidden(lambda e: trusted(e, unit=e.unit + 5))), "spikes are Events", "hidden: .*unit"),
    "float32 times": (
        Spoilt(hidden(lambda e: trusted(e, time=e.time.float()))),
        "spikes are Events",
        "time is torch.float32",
    ),
    "a sample too few": (Spoilt(hidden(lambda e: e[1:])), "spikes are Events", "hidden: 2 samples"),
    "a spike after the end": (
        Spoilt(hidden(lambda e: trusted(e, time=e.time + AFTER))),
        "spikes are Events",
        "the run ends at 0.06 s",
    ),
    "no drive": (
        Spoilt(lambda t, r: replace(r, spikes={n: e for n, e in r.spikes.items() if n not in t.drive})),
        "the drive is part",
        "'input' are not the drive",
    ),
    "another duration": (Spoilt(lambda t, r: replace(r, duration=1.0)), "the record is of the trial", "duration 1.0"),
    "another number": (Spoilt(lambda t, r: replace(r, number=None)), "the record is of the trial", "number None"),
    "more than was asked for": (
        Spoilt(trial=lambda t: replace(t, observe=Observe(t.observe.membrane, {"hidden"}, t.observe.state))),
        "the record is of the trial",
        "the peak of hidden",
    ),
    "less than was asked for": (
        Spoilt(lambda t, r: replace(r, membrane={})),
        "what is offered and asked for",
        r"the membrane of \[\]",
    ),
    "time before batch": (
        Spoilt(sampled(lambda s: replace(s, value=s.value.transpose(0, 1)))),
        "what is offered and asked for",
        r"expected \(B, T, M\)",
    ),
    "samples that are not finite": (
        Spoilt(sampled(lambda s: replace(s, value=s.value / 0))),
        "what is offered and asked for",
        "not finite",
    ),
    "samples at other times": (
        Spoilt(sampled(lambda s: replace(s, time=s.time + 1e-6))),
        "what is offered and asked for",
        "no sample at a time",
    ),
    "sample times in milliseconds": (
        Spoilt(sampled(lambda s: replace(s, time=(s.time * 1e3).round().to(torch.int64)))),
        "what is offered and asked for",
        "times are torch.int64",
    ),
    "no samples": (
        Spoilt(sampled(lambda s: replace(s, time=s.time[:0], value=s.value[:, :0]))),
        "what is offered and asked for",
        "no samples",
    ),
    "a peak lower than a sample": (
        Spoilt(peaks(lambda p: replace(p, value=p.value - 1))),
        "what is offered and asked for",
        "a sample of the same run is higher",
    ),
    "a peak after the end": (
        Spoilt(peaks(lambda p: replace(p, time=p.time + 1))),
        "what is offered and asked for",
        "outside the run",
    ),
    "a peak of the wrong shape": (
        Spoilt(peaks(lambda p: replace(p, value=p.value.t()))),
        "what is offered and asked for",
        "peak of hidden: times",
    ),
    "all neurons instead of one": (Spoilt(trial=without_neurons), "a part of a membrane", r"asked for \[0\]"),
    "other times than those chosen": (Spoilt(trial=on_its_own_grid), "a part of a membrane", "no sample at a time"),
    "a graph": (Spoilt(graph), "plain numbers", "executed.input_to_hidden carries a graph"),
    "weights of nothing": (
        Spoilt(lambda t, r: replace(r, executed={"all": torch.ones(1)})),
        "executed holds weights",
        "no projection",
    ),
    "weights transposed": (
        Spoilt(lambda t, r: replace(r, executed={"input_to_hidden": torch.ones(5, 4, 1)})),
        "executed holds weights",
        "shape",
    ),
    "noise without a number": (Spoilt(noisy), "the same trial with the same number", "spikes.hidden.time differs"),
    "observation disturbs": (Spoilt(in_the_way), "the same trial with the same number", "when more is observed"),
    "weights clamped in place": (Spoilt(trial=clamped), "left as it is", "input_to_hidden.weight was changed"),
    "an empty sample fails": (Spoilt(trial=refuses_nothing), "an empty batch", "an empty batch: IndexError: max of"),
    "dropout ignored": (Spoilt(trial=lambda t: replace(t, silent={})), "that a trial silences", "'hidden' spikes"),
    "no state": (Spoilt(lambda t, r: replace(r, state=None)), "a state that is offered", "is not there"),
    "half a state": (
        Spoilt(lambda t, r: replace(r, state=r.state and replace(r.state, held={}))),
        "a state that is offered",
        "held of 'hidden' is None",
    ),
    "a clock that starts anew": (
        Spoilt(lambda t, r: replace(r, state=r.state and replace(r.state, time=0.0))),
        "a state that is offered",
        "the clock says 0 s",
    ),
    "no memory beyond the membrane": (
        Spoilt(lambda t, r: replace(r, state=r.state and replace(r.state, parts={}))),
        "cut and continued",
        "the (spikes|membrane) of 'hidden'",
    ),
    "no start": (Spoilt(trial=refuses_a_start), "a state that is offered", "NotImplementedError: from rest only"),
}


def broken(error: ConformanceError, contract: str) -> list[str]:
    return [breach.found for breach in error.breaches if contract in breach.contract]


@pytest.mark.parametrize("name", BROKEN_SUBSTRATES)
def test_a_broken_substrate_is_found_out(name: str) -> None:
    substrate, contract, what = BROKEN_SUBSTRATES[name]
    with pytest.raises(ConformanceError, match=what) as caught:
        check_substrate(substrate)  # type: ignore[arg-type]
    assert broken(caught.value, contract)


def test_every_contract_of_a_substrate_is_broken_by_one_of_them() -> None:
    named = {contract for _, contract, _ in BROKEN_SUBSTRATES.values()}
    assert not [text for text in substrates.CONTRACTS if not any(contract in text for contract in named)]


def without_structure(error: type[Exception]) -> Callable[[Trial], Trial]:
    def refuses(trial: Trial) -> Trial:
        other = [name for name, p in trial.network.populations.items() if p.kind not in (None, LI, LIF)]
        if other:
            raise error(f"{other[0]!r} is no LIF")
        return trial

    return refuses


def test_what_has_no_structured_neurons_says_so_and_is_told_of() -> None:
    (told,) = check_substrate(Spoilt(trial=without_structure(Unsupported)))
    assert told == "structured: 'hidden' is no LIF."
    with pytest.raises(ConformanceError, match="KeyError: \"'hidden' is no LIF") as caught:
        check_substrate(Spoilt(trial=without_structure(KeyError)))
    assert {breach.case for breach in caught.value.breaches} == {"structured"}
    with pytest.raises(ConformanceError, match="'hidden' is no LIF"):
        check_substrate(Spoilt(trial=without_structure(Unsupported)), structured())  # it was asked for


def test_an_instrument_need_not_repeat_itself() -> None:
    check_substrate(Spoilt(noisy), deterministic=False)


def test_the_error_lists_everything_that_is_broken() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_substrate(Spoilt(lambda trial, record: replace(record, number=None, duration=1.0)))
    text = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert caught.value.where is not None
    assert "Spoilt(" in caught.value.where
    assert {breach.case for breach in caught.value.breaches} == {"chain", "loop", "structured"}
    assert all(str(breach) in text for breach in caught.value.breaches)
