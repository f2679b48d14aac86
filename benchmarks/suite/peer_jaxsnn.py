"""jaxsnn: events in continuous time, EventProp, as in its own example of layers. See peer_torch.py.

    .venv-peers/bin/python benchmarks/suite/peer_jaxsnn.py jaxsnn problem.npz None 2

It knows tau_mem = 2 tau_syn and no readout without spikes: so tau_mem is 10 ms here, the outputs spike, and the loss is
one of first spikes. A neuron spikes once, as in the example; there are enough steps for every input and every neuron.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure

measure.pin_cores(int(sys.argv[4]))  # before jax counts them

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from frames import Bisection  # noqa: E402
from problem import Batch, Problem  # noqa: E402

LEARNING_RATE = 1e-7


def spikes_of(batch: Batch) -> Any:
    """Events of a batch, padded."""
    from jaxsnn.event.types import Spike

    counts, samples = np.diff(batch.start), len(batch.label)
    sample, longest = np.repeat(np.arange(samples), counts), int(counts.max())
    place = (sample, np.arange(len(sample)) - batch.start[sample])
    time, unit = np.full((samples, longest), np.inf, np.float32), np.full((samples, longest), -1, np.int32)
    time[place], unit[place] = batch.time, batch.unit
    there = unit >= 0
    arrays = (time, unit, np.zeros_like(time), np.where(there, 0, -1).astype(np.int32), there)
    return Spike(*map(jnp.asarray, arrays))


def network(problem: Problem, inputs: int) -> tuple[Any, Any]:
    """Its init and apply functions."""
    from jaxsnn.event.modules import LIF, Linear, Source
    from jaxsnn.event.modules.lif.lif import LIFParameters
    from jaxsnn.event.topology import Topology

    shape = problem.shape
    many, hidden, classes = shape.sizes
    neuron = LIFParameters(v_reset=-1000.0, v_th=1.0, tau_syn=shape.tau_syn, tau_mem=2 * shape.tau_syn)
    builder = Topology(t_max=shape.duration, backprop_method="eventprop")
    builder.add(
        {
            "inp": Source(many),
            "lif1": LIF(hidden, inputs + hidden, neuron),
            "lif2": LIF(classes, hidden + classes, neuron),
            "syn1": Linear(pre_weights=jnp.asarray(problem.weights[0])),
            "syn2": Linear(mean=2.0 / hidden**0.5, std=0.8 / hidden**0.5),
        }
    )
    builder.connect([("inp", "syn1"), ("syn1", "lif1"), ("lif1", "syn2"), ("syn2", "lif2")])
    return builder.done()


def hidden_spikes(spikes: Any) -> float:
    """Of the hidden layer, per sample."""
    own = np.asarray(spikes.internal) & (np.asarray(spikes.idx) >= 0) & np.isfinite(np.asarray(spikes.time))
    return float(own.sum() / len(own))


def settle(apply: Any, weights: Any, drive: Any, wanted: float) -> Any:
    """Scale the weights into the hidden layer until it spikes as often as is asked for."""
    search, unscaled = Bisection(wanted), weights["syn1"]
    while True:
        weights = weights | {"syn1": unscaled * search.factor}
        if search.met(hidden_spikes(apply(drive, weights)["lif1"])):
            return weights


def main(path: str) -> dict[str, Any]:
    """Samples a second and bytes."""
    jax.jit(lambda x: x + 1)(jnp.zeros(4)).block_until_ready()
    memory = measure.Memory.from_here()
    from jaxsnn.event.loss import mse_loss
    from jaxsnn.event.training import update
    from jaxsnn.event.types import OptState
    from jaxsnn.examples.event.utils import loss_wrapper

    memory.package_imported()
    problem = Problem.load(Path(path), batches=1)
    shape, tau = problem.shape, problem.shape.tau_syn
    spikes = spikes_of(problem.events)
    drive, classes = {"inp": spikes}, shape.sizes[-1]
    target = jnp.where(jnp.asarray(problem.events.label)[:, None] == jnp.arange(classes), 2 * tau, 3 * tau)
    init, apply = network(problem, spikes.time.shape[1])
    forward = jax.jit(apply)
    weights = settle(forward, init(jax.random.PRNGKey(0)), drive, problem.spikes[0])
    loss = partial(loss_wrapper, apply, mse_loss, 2 * tau, "lif2", classes)
    optimizer = optax.adam(LEARNING_RATE)
    step = jax.jit(partial(update, optimizer, loss))
    state = [OptState(optimizer.init(weights), weights, jax.random.PRNGKey(1))]

    def train() -> None:
        state[0] = step(state[0], (drive, target))[0]
        jax.block_until_ready(state[0].params)

    found: dict[str, Any] = {"memory": memory.of(train)}
    found["spikes"] = [hidden_spikes(forward(drive, weights)["lif1"])]
    answer = measure.rate(lambda: jax.block_until_ready(forward(drive, weights)), shape.batch)
    return found | {
        "rates": {"forward": answer, "train": measure.rate(train, shape.batch)},
        "version": version("jaxsnn"),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[2])))
