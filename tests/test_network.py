"""Networks: shapes, names, connectivity, initial weights, and everything that makes no network."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from spikeloop import LI, LIF, Network, Normal, Population, Projection, Uniform, feedforward, psp_peak, recurrent
from spikeloop.errors import InvalidNetwork, ShapeMismatch, UnknownPopulation, Unsupported

NEURON = LIF(10e-3, 5e-3)


def pair(projection, sources=5, targets=3, neuron=NEURON):
    return Network({"input": Population(sources), "hidden": Population(targets, neuron)}, [projection])


def test_feedforward_names_its_layers():
    assert list(feedforward([5, 120, 3], NEURON).populations) == ["input", "hidden", "output"]
    deep = feedforward([5, 7, 6, 3], NEURON, readout=LI(10e-3, 5e-3))
    assert list(deep.populations) == ["input", "hidden1", "hidden2", "output"]
    assert list(deep.projections) == ["input_to_hidden1", "hidden1_to_hidden2", "hidden2_to_output"]
    assert deep.populations["output"].kind is LI
    assert deep.inputs == ("input",)
    assert list(feedforward([5, 3], NEURON).populations) == ["input", "output"]


def test_feedforward_takes_one_thing_for_all_layers_or_one_each():
    slow = LIF(tau_mem=nn.Parameter(torch.full((120,), 20e-3)), tau_syn=5e-3)
    net = feedforward([5, 120, 3], [slow, NEURON], weight=[Normal(1.0, 0.0), torch.ones(120, 3)], dropout=0.2)
    assert net.populations["hidden"].tau_mem.shape == (120,)
    assert net.projection("hidden", "output").weight.tolist() == torch.ones(120, 3).tolist()
    assert [population.dropout for population in net.populations.values()] == [0.2, 0.2, 0.0]
    for wrong in ({"weight": [Normal(0, 1)]}, {"dropout": [0.1, 0.1]}):
        with pytest.raises(InvalidNetwork, match=r"expected|Expected"):
            feedforward([5, 120, 3], NEURON, **wrong)
    with pytest.raises(InvalidNetwork, match="1 neurons for 2 layers"):
        feedforward([5, 120, 3], [NEURON])
    with pytest.raises(InvalidNetwork, match="sizes"):
        feedforward([5], NEURON)


def test_recurrent_adds_a_loop_to_every_hidden_layer():
    net = recurrent([5, 7, 6, 3], NEURON, readout=LI(10e-3, 5e-3), recurrent_weight=Uniform(0.0, 0.1))
    assert {"hidden1_to_hidden1", "hidden2_to_hidden2"} <= set(net.projections)
    assert len(net.projections) == 5
    assert net.projection("hidden1", "hidden1").weight.shape == (7, 7)


def test_initial_amplitudes_are_peaks_of_the_postsynaptic_potential():
    torch.manual_seed(0)
    tau_mem = torch.linspace(5e-3, 20e-3, 400)
    net = pair(Projection("input", "hidden", Normal(0.3, 0.1)), 500, 400, LIF(tau_mem, 5e-3))
    weight = net.projection("input", "hidden").weight.detach().double()
    amplitude = weight * psp_peak(tau_mem.double(), torch.tensor(5e-3, dtype=torch.float64))
    assert weight.dtype == torch.float64
    assert net.projection("input", "hidden").weight.dtype == torch.float32
    assert float(amplitude.mean()) == pytest.approx(0.3, abs=2e-3)
    assert float(amplitude.std()) == pytest.approx(0.1, abs=2e-3)
    flat = pair(Projection("input", "hidden", Uniform(0.1, 0.2))).projection("input", "hidden").weight.detach()
    peak = psp_peak(10e-3, 5e-3)
    assert bool(((flat * peak >= 0.1 - 1e-6) & (flat * peak <= 0.2 + 1e-6)).all())


def test_a_seed_fixes_the_weights():
    torch.manual_seed(3)
    one = feedforward([5, 20, 3], NEURON)
    torch.manual_seed(3)
    other = feedforward([5, 20, 3], NEURON)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_given_weights_are_copied_and_parameters_kept():
    weight = torch.ones(5, 3, dtype=torch.float64)
    projection = Projection("input", "hidden", weight)
    weight.zero_()
    assert projection.weight.dtype == torch.float64
    assert float(projection.weight.detach().sum()) == 15
    parameter = nn.Parameter(torch.ones(5, 3), requires_grad=False)
    assert Projection("input", "hidden", parameter).weight is parameter
    for weight in (torch.ones(2, 3, dtype=torch.complex64), nn.Parameter(torch.ones(2, 3, dtype=torch.complex64))):
        with pytest.raises(InvalidNetwork, match=r"projection a to b: .*complex"):
            Projection("a", "b", weight)
    with pytest.raises(InvalidNetwork, match="the weight is a float"):
        Projection("input", "hidden", 0.5)  # type: ignore[arg-type]


def test_a_weight_is_drawn_when_its_network_is_built():
    projection = Projection("input", "hidden", Normal(0.1, 0.1))
    with pytest.raises(AttributeError, match="drawn when its Network is built"):
        _ = projection.weight
    pair(projection)
    assert projection.weight.shape == (5, 3)


def test_a_transposed_weight_is_recognised():
    with pytest.raises(ShapeMismatch, match=r"transpose.*\(5, 3\): weight is \(source, target\).*from_linear"):
        pair(Projection("input", "hidden", torch.ones(3, 5)))
    with pytest.raises(ShapeMismatch, match=r"\(4, 3\).*weight is \(source, target\)") as caught:
        pair(Projection("input", "hidden", torch.ones(4, 3)))
    assert caught.value.todo is None


def test_from_linear_transposes_and_refuses_a_bias():
    linear = nn.Linear(5, 3, bias=False)
    net = pair(Projection.from_linear("input", "hidden", linear))
    assert torch.equal(net.projection("input", "hidden").weight, linear.weight.t())
    with pytest.raises(InvalidNetwork, match="bias"):
        Projection.from_linear("input", "hidden", nn.Linear(5, 3))
    nn.init.zeros_((zero := nn.Linear(5, 3)).bias)
    assert Projection.from_linear("input", "hidden", zero).weight.shape == (5, 3)


def test_sparse_synapses():
    projection = Projection.sparse(
        "input",
        "hidden",
        torch.tensor([4, 0, 0]),
        torch.tensor([1, 2, 2]),
        Normal(0.5, 0.0),
        delay=torch.ones(3) * 1e-3,
    )
    net = pair(projection)
    synapses = projection.synapses
    assert synapses is not None
    assert synapses is projection.synapses
    assert (synapses.source.tolist(), synapses.target.tolist(), synapses.index.tolist()) == (
        [4, 0, 0],
        [1, 2, 2],
        [0, 1, 2],
    )
    assert (synapses.source_size, synapses.target_size) == (5, 3)
    assert projection.weight.shape == (3,)
    assert projection.delay.shape == (3,)
    other = pair(Projection.sparse("input", "hidden", torch.tensor([1, 1, 1]), torch.tensor([0, 1, 2]), torch.ones(3)))
    other.load_state_dict({**net.state_dict(), "projections.input_to_hidden.delay": torch.tensor(0.0)})
    loaded = other.projection("input", "hidden").synapses
    assert loaded is not None
    assert loaded.source.tolist() == [4, 0, 0]


def test_sparse_synapses_with_a_unit_that_does_not_exist():
    with pytest.raises(InvalidNetwork, match=r"input_to_hidden.*unit 5.*0 to 4"):
        pair(Projection.sparse("input", "hidden", torch.tensor([5]), torch.tensor([0]), torch.ones(1)))
    with pytest.raises(InvalidNetwork, match="unit -1"):
        pair(Projection.sparse("input", "hidden", torch.tensor([0]), torch.tensor([-1]), torch.ones(1)))
    with pytest.raises(ShapeMismatch, match="same length"):
        Projection.sparse("input", "hidden", torch.tensor([0, 1]), torch.tensor([0]), torch.ones(2))
    with pytest.raises(ShapeMismatch, match="one weight per synapse"):
        pair(Projection.sparse("input", "hidden", torch.tensor([0, 1]), torch.tensor([0, 1]), torch.ones(3)))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (3, 2)])
def test_conv2d_is_the_convolution_of_torch(stride, padding):
    torch.manual_seed(0)
    kernel, image = torch.randn(4, 2, 3, 2), torch.randn(1, 2, 7, 6)
    expected = functional.conv2d(image, kernel, stride=stride, padding=padding)
    projection = Projection.conv2d("input", "hidden", kernel, (2, 7, 6), stride, padding)
    pair(projection, image.numel(), expected.numel())
    synapses = projection.synapses
    assert synapses is not None
    products = image.flatten()[synapses.source] * projection.weight.detach().flatten()[synapses.index]
    summed = torch.zeros(expected.numel()).index_add(0, synapses.target, products)
    assert torch.allclose(summed, expected.flatten(), atol=1e-5)
    assert projection.weight.shape == kernel.shape


def test_conv2d_that_does_not_fit():
    kernel = torch.ones(1, 1, 3, 3)
    with pytest.raises(ShapeMismatch, match="25 to 9 units"):
        pair(Projection.conv2d("input", "hidden", kernel, (1, 5, 5)), 25, 8)
    with pytest.raises(ShapeMismatch, match="kernel"):
        Projection.conv2d("input", "hidden", kernel, (2, 5, 5))
    with pytest.raises(ShapeMismatch, match="larger than the padded input"):
        Projection.conv2d("input", "hidden", kernel, (1, 2, 2))


@pytest.mark.parametrize("shape", [(), (5, 1), (5, 3)])
def test_trainable_delays_start_where_they_were_given(shape):
    seconds = nn.Parameter(20e-3 * torch.rand(shape, dtype=torch.float64) + 1e-3)
    projection = Projection("input", "hidden", torch.ones(5, 3), seconds)
    pair(projection)
    assert projection.delay.shape == shape
    assert torch.allclose(projection.delay, seconds, rtol=1e-12)
    assert {name for name, _ in projection.named_parameters()} == {"weight", "raw_delay"}
    projection.delay.sum().backward()
    assert projection.raw_delay.grad is not None
    with torch.no_grad():
        projection.raw_delay -= 50.0
    assert bool((projection.delay >= 0).all())


def test_a_trainable_delay_of_zero_starts_at_a_thousandth_of_tau_syn():
    projection = Projection("input", "hidden", torch.ones(5, 3), nn.Parameter(torch.zeros((), dtype=torch.float64)))
    pair(projection)
    assert float(projection.delay.detach()) == pytest.approx(5e-6)


@pytest.mark.parametrize(
    ("delay", "error"),
    [
        (-1e-3, InvalidNetwork),
        (float("nan"), InvalidNetwork),
        (torch.ones(5), ShapeMismatch),
        (torch.ones(3, 5), ShapeMismatch),
    ],
)
def test_wrong_delays(delay, error):
    with pytest.raises(error, match=r"input_to_hidden.*delay"):
        pair(Projection("input", "hidden", torch.ones(5, 3), delay))


def test_projections_are_named_and_numbered():
    net = pair(Projection("input", "hidden", torch.ones(5, 3)))
    assert list(net.projections) == ["input_to_hidden"]
    two = Network(
        {"input": Population(5), "hidden": Population(3, NEURON)},
        [Projection("input", "hidden", torch.ones(5, 3)), Projection("input", "hidden", torch.ones(5, 3), 1e-3)],
    )
    assert list(two.projections) == ["input_to_hidden", "input_to_hidden2"]
    named = Network(
        {"input": Population(5), "hidden": Population(3, NEURON)},
        {"fast": Projection("input", "hidden", torch.ones(5, 3))},
    )
    assert named.projection("input", "hidden") is named.projections["fast"]


@pytest.mark.parametrize(
    ("projections", "error", "what"),
    [
        ([Projection("input", "nowhere", torch.ones(5, 3))], UnknownPopulation, "no 'nowhere'.*input, hidden"),
        ([Projection("nowhere", "hidden", torch.ones(5, 3))], UnknownPopulation, "no 'nowhere'"),
        ([Projection("hidden", "input", torch.ones(3, 5))], InvalidNetwork, "'input' is an input"),
        ([Projection("readout", "hidden", torch.ones(2, 3))], InvalidNetwork, "never spikes"),
        (
            [Projection("input", "hidden", torch.full((5, 3), torch.nan))],
            InvalidNetwork,
            "input_to_hidden: weight has NaN",
        ),
        ({"a.b": Projection("input", "hidden", torch.ones(5, 3))}, InvalidNetwork, "cannot be a name"),
        ({"hidden": Projection("input", "hidden", torch.ones(5, 3))}, InvalidNetwork, "both a population and"),
        ([torch.ones(5, 3)], InvalidNetwork, "a Projection"),
    ],
)
def test_what_is_no_network(projections, error, what):
    populations = {"input": Population(5), "hidden": Population(3, NEURON), "readout": Population(2, LI(10e-3, 5e-3))}
    with pytest.raises(error, match=what):
        Network(populations, projections)


def test_names_that_torch_needs_are_refused():
    with pytest.raises(InvalidNetwork, match="cannot be a name"):
        Network({"keys": Population(5)}, [])
    with pytest.raises(InvalidNetwork, match="a Population"):
        Network({"input": 5}, [])  # type: ignore[dict-item]


def test_unknown_names_say_what_there_is():
    net = feedforward([5, 4, 3], NEURON)
    with pytest.raises(UnknownPopulation, match="one of input, hidden, output"):
        _ = net.populations["hiden"]
    with pytest.raises(UnknownPopulation, match="input_to_hidden, hidden_to_output"):
        net.projection("input", "output")


def test_check_names_what_a_step_has_broken():
    net = feedforward([5, 4, 3], LIF(10e-3, 5e-3, threshold=nn.Parameter(torch.ones(()))))
    net.check()
    with torch.no_grad():
        net.projection("hidden", "output").weight[0, 0] = torch.nan
    with pytest.raises(InvalidNetwork, match=r"hidden_to_output.*NaN"):
        net.check()
    with torch.no_grad():
        net.projection("hidden", "output").weight[0, 0] = 0.0
        net.populations["hidden"].threshold -= 2.0
    with pytest.raises(InvalidNetwork, match=r"population 'hidden'.*reset is not below threshold"):
        net.check()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_weight_that_becomes_no_number_is_found(dtype: torch.dtype, value: float, transposed: bool):
    net = pair(Projection("input", "hidden", torch.ones(5, 3)))
    stored = torch.ones(3, 5, dtype=dtype).T if transposed else torch.ones(5, 3, dtype=dtype)
    net.projections["input_to_hidden"].weight = nn.Parameter(stored)
    for _ in range(2):
        net.check()
    with torch.no_grad():
        net.projections["input_to_hidden"].weight[4, 2] = value
    with pytest.raises(InvalidNetwork, match="weight has"):
        net.check()


def test_large_weights_are_not_mistaken_for_infinite_ones():
    net = pair(Projection("input", "hidden", torch.full((5, 3), 3e38)))
    net.check()


def test_tensors_elsewhere_are_refused():
    with pytest.raises(Unsupported, match="meta"):
        feedforward([5, 4, 3], NEURON).to("meta").check()


def test_a_network_is_not_called():
    with pytest.raises(Unsupported, match=r"run\(network, drive, duration\)"):
        feedforward([5, 4, 3], NEURON)(torch.ones(1))


def test_quantities_are_natural_and_in_the_graph():
    slow = LIF(tau_mem=nn.Parameter(torch.tensor(20e-3)), tau_syn=5e-3)
    net = feedforward([5, 4, 3], [slow, NEURON])
    quantities = net.quantities()
    assert {owner for owner, _ in quantities} == {"input_to_hidden", "hidden_to_output", "hidden", "output"}
    assert quantities["input_to_hidden", "weight"] is net.projection("input", "hidden").weight
    assert quantities["hidden", "tau_mem"].requires_grad
    assert not quantities["hidden", "tau_syn"].requires_grad
    assert float(quantities["hidden", "tau_mem"].detach()) == pytest.approx(20e-3)
    net.projection("hidden", "output").weight.requires_grad_(False)
    assert set(net.trainable()) == {key for key, value in net.quantities().items() if value.requires_grad}
    assert set(net.trainable()) == {("input_to_hidden", "weight"), ("hidden", "tau_mem")}


def test_copies_pickles_and_states_carry_everything():
    torch.manual_seed(0)
    net = Network(
        {"input": Population(6), "hidden": Population(4, LIF(nn.Parameter(torch.tensor(20e-3)), 5e-3))},
        [
            Projection("input", "hidden", Normal(0.4, 0.2)),
            Projection("hidden", "hidden", Normal(0.0, 0.2), delay=nn.Parameter(30e-3 * torch.rand(4, 4))),
        ],
    )
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert {k: v.tolist() for k, v in twin.quantities().items()} == {
            k: v.tolist() for k, v in net.quantities().items()
        }
        with torch.no_grad():
            twin.projection("input", "hidden").weight.zero_()
        twin.load_state_dict(net.state_dict())
        assert torch.equal(twin.projection("input", "hidden").weight, net.projection("input", "hidden").weight)
    with pytest.raises(RuntimeError, match="size mismatch"):
        feedforward([5, 4, 3], NEURON).load_state_dict(feedforward([5, 6, 3], NEURON).state_dict())


def test_double_converts_weights_only_upwards():
    net = feedforward([5, 4, 3], NEURON).double()
    assert net.projection("input", "hidden").weight.dtype == torch.float64
    assert net.float().populations["hidden"].tau_mem.dtype == torch.float64


def test_repr_reads_well():
    net = recurrent([5, 4, 3], LIF(10e-3, 5e-3), readout=LI(10e-3, 5e-3))
    net.projection("input", "hidden").weight.requires_grad_(False)
    shown = repr(net)
    assert "input -> hidden, weight (5, 4) (frozen)" in shown
    assert "4 LIF, tau_mem 10 ms" in shown
