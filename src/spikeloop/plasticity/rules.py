"""Standard plasticity rules: kernels with numbers of their own. Weights and correlations are fractions."""

from __future__ import annotations

from dataclasses import dataclass

from spikeloop.plasticity.view import View


@dataclass(frozen=True)
class AdditiveSTDP:
    r"""Spike-timing-dependent plasticity whose steps do not depend on the weight:

    .. math:: \Delta w = \lambda_+ c_+ - \lambda_- c_-

    with the correlations :math:`c_\pm` since the last call. causal, anticausal: :math:`\lambda_\pm`.
    """

    causal: float = 1.0
    anticausal: float = 1.0

    def __call__(self, view: View) -> None:
        """Change the weights, empty the sensors."""
        view.weights += self.causal * view.causal - self.anticausal * view.anticausal
        view.reset_correlation()


@dataclass(frozen=True)
class MultiplicativeSTDP:
    r"""Spike-timing-dependent plasticity that slows down towards the ends of the weight's range, 0 and 1:

    .. math:: \Delta w = \lambda_+ (1 - w) c_+ - \lambda_- w c_-

    (van Rossum et al. 2000; Friedmann et al. 2016). causal, anticausal: :math:`\lambda_\pm`. In the mean it comes to
    rest where :math:`w = \lambda_+ c_+ / (\lambda_+ c_+ + \lambda_- c_-)`.
    """

    causal: float = 1.0
    anticausal: float = 1.0

    def __call__(self, view: View) -> None:
        """Change the weights, empty the sensors."""
        weights = view.weights
        view.weights = (
            weights + self.causal * ((1.0 - weights) * view.causal) - self.anticausal * (weights * view.anticausal)
        )
        view.reset_correlation()


@dataclass(frozen=True)
class Homeostasis:
    r"""All synapses of a neuron grow by a step where it spikes too rarely, and shrink where it spikes too often:

    .. math:: \Delta w_{ij} = s \; \mathrm{sign}(n^* - n_j)

    target: :math:`n^*`, spikes between two calls.  step: :math:`s`; 1/64 is one step of a chip's weight.
    """

    target: int
    step: float = 1 / 64

    def __call__(self, view: View) -> None:
        """Change the weights."""
        wanted = view.sign(self.target - view.counts)
        view.weights += self.step * (wanted if view.weights.ndim == 2 else wanted[view.targets])


@dataclass(frozen=True)
class RewardModulatedSTDP:
    r"""Correlations are taken over as far as the reward is better than usual (Frémaux & Gerstner 2016):

    .. math:: \Delta w_{ij} = \beta (R_j - \bar R_j) \, c_{+,ij}, \qquad
              \bar R_j \leftarrow \bar R_j + \gamma (R_j - \bar R_j)

    The reward, one number or one per target, is ``state["reward"]``: `request` sets it between runs. Its mean is
    ``state["mean_reward"]``; the first reward is its own mean. rate: :math:`\beta`.  decay: :math:`\gamma`.
    """

    rate: float
    decay: float = 0.5

    def __call__(self, view: View) -> None:
        """Change the weights, empty the sensors."""
        reward = view.state["reward"]
        mean = view.state.get("mean_reward", reward)
        view.weights += (self.rate * (reward - mean)) * view.causal
        view.state["mean_reward"] = mean + self.decay * (reward - mean)
        view.reset_correlation()


@dataclass(frozen=True)
class Rewiring:
    """Structural plasticity of a sparse projection: a synapse that has become too weak gets another source.

    threshold: weights below are too weak.  start: the weight of a synapse with a new source, which is drawn evenly from
    all of them. On a chip the source is the synapse's label.
    """

    threshold: float
    start: float

    def __call__(self, view: View) -> None:
        """Change sources and weights."""
        weak = view.weights < self.threshold
        drawn = view.integers(len(view.source_counts))
        view.sources = view.where(weak, drawn, view.sources)
        view.weights = view.where(weak, self.start, view.weights)


@dataclass(frozen=True)
class Relocation:
    """Structural plasticity between compartments: a synapse that has become too weak moves to the same place of the
    next projection, such as one to another compartment of the same neurons.

    The projections of the program are of one shape; a synapse is where its weight is not 0, and moves where none is.
    threshold: weights above 0 and below this are too weak.  start: the weight of a synapse that has moved.
    """

    threshold: float
    start: float

    def __call__(self, view: View) -> None:
        """Move synapses."""
        names = view.projections
        before = {name: view[name].weights for name in names}
        for name, following in zip(names, (*names[1:], names[0]), strict=True):
            weak = (before[name] > 0) & (before[name] < self.threshold) & (before[following] == 0)
            view[name].weights = view.where(weak, 0.0, view[name].weights)
            view[following].weights = view.where(weak, self.start, view[following].weights)
