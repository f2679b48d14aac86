"""spyx: its cells in one compiled scan over time, surrogate gradients, Adam of optax. See peer_torch.py.

.venv-peers/bin/python benchmarks/suite/peer_spyx.py spyx problem.npz 0.0003 2
"""

from __future__ import annotations

import json
import math
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure

measure.pin_cores(int(sys.argv[4]))  # before jax counts them

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from frames import Bisection, framed  # noqa: E402
from jax import lax  # noqa: E402
from problem import Problem, Shape  # noqa: E402

LEARNING_RATE = 1e-7


class Net:
    """Layers of cells, one after the other through all of time."""

    def __init__(self, shape: Shape, dt: float) -> None:
        from spyx import nn

        decays = {"alpha": math.exp(-dt / shape.tau_syn), "beta": math.exp(-dt / shape.tau_mem)}
        self.shape = shape
        self.cells = [nn.CuBaLIF((size,), **decays, rngs=nnx.Rngs(0)) for size in shape.sizes[1:]]
        self.cells[-1].threshold = 1e9  # the readout only integrates

    def __call__(self, weights: list[Any], frames: Any) -> tuple[Any, list[Any]]:
        """Highest membranes of the readout (B, M), and spikes of each hidden layer per sample."""
        now, counts = frames, []
        for cell, weight in zip(self.cells[:-1], weights[:-1], strict=True):
            now, _ = self._layer(cell, now, weight)
            counts.append(now.sum() / self.shape.batch)
        _, states = self._layer(self.cells[-1], now, weights[-1])
        return states[..., : self.shape.sizes[-1]].max(0), counts

    def _layer(self, cell: Any, before: Any, weight: Any) -> tuple[Any, Any]:
        def step(state: Any, current: Any) -> tuple[Any, Any]:
            spikes, state = cell(current, state)
            return state, (spikes, state)

        return lax.scan(step, cell.initial_state(self.shape.batch), before @ weight)[1]

    def loss(self, weights: list[Any], frames: Any, label: Any) -> Any:
        highest, _ = self(weights, frames)
        return optax.softmax_cross_entropy_with_integer_labels(10.0 * highest, label).mean()


def settle(forward: Any, weights: list[Any], frames: Any, wanted: list[float]) -> None:
    """Scale the weights into each hidden layer until it spikes as often as it does in continuous time."""
    for k, spikes in enumerate(wanted):
        search, unscaled = Bisection(spikes), weights[k]
        while True:
            weights[k] = unscaled * search.factor
            if search.met(float(forward(weights, frames)[1][k])):
                break


def main(path: str, dt: float) -> dict[str, Any]:
    """Samples a second and bytes."""
    jax.jit(lambda x: x + 1)(jnp.zeros(4)).block_until_ready()
    memory = measure.Memory.from_here()
    import_module("spyx.nn")
    memory.package_imported()
    problem = Problem.load(Path(path), batches=1)
    shape, batch = problem.shape, problem.events
    net = Net(shape, dt)
    frames, label = jnp.asarray(framed(batch, shape, dt)), jnp.asarray(batch.label)
    weights, forward = [jnp.asarray(w) for w in problem.weights], jax.jit(net.__call__)
    settle(forward, weights, frames, problem.spikes)
    optimizer = optax.adam(LEARNING_RATE)

    @jax.jit
    def step(weights: list[Any], state: Any, frames: Any, label: Any) -> tuple[list[Any], Any]:
        updates, state = optimizer.update(jax.grad(net.loss)(weights, frames, label), state)
        return optax.apply_updates(weights, updates), state

    held = [weights, optimizer.init(weights)]

    def train() -> None:
        held[:] = step(*held, frames, label)
        jax.block_until_ready(held)

    found = {"memory": memory.of(train), "frames": frames.nbytes}
    found["spikes"] = [float(count) for count in forward(held[0], frames)[1]]
    answer = measure.rate(lambda: jax.block_until_ready(forward(held[0], frames)), shape.batch)
    return found | {"rates": {"forward": answer, "train": measure.rate(train, shape.batch)}, "version": version("spyx")}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[2], float(sys.argv[3]))))
