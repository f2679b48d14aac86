"""Pong: a network learns by reward where to hold its paddle, with a rule that runs beside it (Wunderlich et al. 2019).

The ball's place is one of ``positions`` lines of an input; the output neuron that spikes most says where the paddle
shall go. The closer that is, the larger the reward. Synapses learn by reward-modulated correlations (`Learn`) what
noise tries out, in balance by homeostasis; reward, its mean and the noise are the kernel's own matter, as on a chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeloop._run import IDEAL, run
from spikeloop.events import Events
from spikeloop.network import Network
from spikeloop.neuron import LIF
from spikeloop.plasticity import Correlation, Plastic, Program, View, tell
from spikeloop.population import Population
from spikeloop.projection import Projection
from spikeloop.protocols import Observe, Substrate
from spikeloop.record import State

PROGRAM = "learn"
REWARDS = (4.0, 3.0, 2.0, 2.0, 1.0, 1.0, 0.0)
"""For a paddle that is so many positions away from the ball; further away it is -1."""


def reward_of(distance: int) -> float:
    """What a paddle that is ``distance`` positions away from the ball is worth."""
    return REWARDS[distance] if distance < len(REWARDS) else -1.0


@dataclass(frozen=True)
class Pong:
    """The game's numbers; seconds are model time.

    positions: of ball and paddle.  events, interval: of an input line while the ball is there.  spread: share of the
    events that lines at a distance of 0, 1, ... get.  pause: after each presentation.  noise: standard deviation of the
    weights of noise, at first and after ``cooled`` epochs, as a fraction of the largest weight.  rate: of learning,
    per reward and correlation.  decay: of the mean reward.  target: spikes per neuron and presentation that homeostasis
    aims at, by steps of at most ``step`` per epoch; learning starts after ``quiet`` epochs of homeostasis.
    winners: whether only the synapses of the neuron that spikes most learn by reward, not those of all that spike.
    ambition: share of what the mean reward lacks of the largest that a reward has to be better by, to be learned from
    as a better one: what is only as good as ever is unlearned then, where there is better to be had.
    """

    positions: int = 100
    events: int = 140
    interval: float = 4.2e-3
    spread: tuple[float, ...] = (1.0, 0.8, 0.5, 0.1)
    pause: float = 0.052
    noise: tuple[float, float] = (15 / 64, 4 / 64)
    cooled: int = 500
    rate: float = 0.04
    decay: float = 0.5
    target: float = 3.0
    step: float = 1 / 64
    quiet: int = 10
    winners: bool = False
    ambition: float = 0.0

    @property
    def period(self) -> float:
        """Seconds of one presentation."""
        return self.events * self.interval + self.pause

    def network(self, seed: int = 0) -> Network:
        """Input, noise and output, and the program that learns."""
        generator = torch.Generator().manual_seed(seed)
        start = (12 + 2 * torch.randn(self.positions, self.positions, generator=generator)).clamp(0, 63) / 64
        largest = 4 / 3  # a third of the threshold
        sensor = Correlation(tau=5e-3, amplitude=1 / 128)
        program = Program(
            Learn(self),
            {"input_to_output": Plastic(largest, sensor=sensor), "noise_to_output": Plastic(largest, sensor=None)},
            period=self.period,
            state={"order": np.arange(self.positions), "mean_reward": np.zeros(self.positions)},
            seed=seed,
        )
        return Network(
            {
                "input": Population(self.positions),
                "noise": Population(1),
                "output": Population(self.positions, LIF(10e-3, 5e-3, refractory=2e-3)),
            },
            [
                Projection("input", "output", start * largest),
                Projection("noise", "output", torch.zeros(1, self.positions)),
            ],
            programs={PROGRAM: program},
        )

    def drive(self, balls: NDArray[np.int64], begin: float = 0.0) -> dict[str, Events]:
        """The input for balls at these positions, one after the other from ``begin`` on."""
        times, units = list[NDArray[Any]](), list[NDArray[Any]]()
        for number, ball in enumerate(balls):
            for distance, share in enumerate(self.spread):
                for line in {ball - distance, ball + distance}:
                    if 0 <= line < self.positions:
                        train = np.arange(round(self.events * share)) * (self.interval / share)
                        times.append(begin + number * self.period + train)
                        units.append(np.full(len(train), line))
        ticks = begin + np.add.outer(
            np.arange(len(balls)) * self.period, (np.arange(self.events) + 0.5) * self.interval
        )
        noise = Events.from_lists([ticks.ravel()], [np.zeros(ticks.size)], 1)
        return {
            "input": Events.from_lists([np.concatenate(times)], [np.concatenate(units)], self.positions),
            "noise": noise,
        }


@dataclass(frozen=True)
class Learn:
    """The kernel: called after each presentation, of ball ``state["order"][call % positions]``."""

    pong: Pong

    def __call__(self, view: View) -> None:
        """Find the winner, reward it, balance the activity, draw new noise."""
        pong, state = self.pong, view.state
        synapses, noise = view["input_to_output"], view["noise_to_output"]
        epoch, number = divmod(view.call, pong.positions)
        ball, counts = int(state["order"][number]), np.asarray(synapses.counts)
        reward = reward_of(abs(int(counts.argmax()) - ball)) if counts.any() else -1.0
        better = reward - float(state["mean_reward"][ball])
        if epoch >= pong.quiet:
            aim = pong.ambition * (REWARDS[0] - float(state["mean_reward"][ball]))
            synapses.weights = synapses.weights + (pong.rate * (better - aim)) * self._sensed(view, ball, counts)
        state["mean_reward"][ball] += pong.decay * better
        state["spikes"] = counts + (state["spikes"] if number else 0)
        if number == pong.positions - 1:
            view.record("reward", float(np.mean(np.asarray(state["mean_reward"]))) / REWARDS[0])
            lack = 1.0 - state["spikes"] / (pong.target * pong.positions)
            synapses.weights = synapses.weights + pong.step * np.clip(lack, -1.0, 1.0)
        synapses.reset_correlation()
        noise.weights = noise.weights * 0.0 + np.clip(self._sigma(epoch) * _normal(view, pong.positions), 0.0, 1.0)

    def _sensed(self, view: View, ball: int, counts: NDArray[Any]) -> Any:
        """Causal readings of the lines that the ball drives; what others read is only their sensors' noise."""
        synapses = view["input_to_output"]
        driven = np.abs(np.arange(self.pong.positions) - ball)[:, None] < len(self.pong.spread)
        if self.pong.winners:
            driven = driven & (counts >= counts.max())
        return view.where(driven & np.ones(len(counts), bool), synapses.causal, synapses.causal * 0.0)

    def _sigma(self, epoch: int) -> float:
        first, last = self.pong.noise
        return first + (last - first) * min(epoch / self.pong.cooled, 1.0)


def _normal(view: View, count: int) -> NDArray[np.float64]:
    """(1, count) numbers that are normally distributed, nearly: sums of twelve even ones."""
    return np.asarray(view.random(12, 1, count)).sum(0) - 6.0


@dataclass(frozen=True, eq=False)
class Learning:
    """What became of a player: mean expected reward after each epoch, as a share of the largest; and its state."""

    reward: NDArray[np.float64]
    state: State
    weight: NDArray[np.float64]


def learn(pong: Pong, epochs: int, substrate: Substrate = IDEAL, seed: int = 0) -> Learning:
    """Play ``epochs`` epochs, each of them every position once, but for the first in random order.

    The expected reward of a position is the kernel's running mean of what it got there.
    """
    network, shuffled = pong.network(seed), np.random.default_rng(seed)
    reached, state, record = list[float](), None, None
    order, begin = np.arange(pong.positions), 0.0
    for _ in range(epochs):
        if state is not None:
            order, begin = shuffled.permutation(pong.positions), state.time
            state = tell(state, PROGRAM, order=order[None])
        drive = pong.drive(order, begin)
        record = run(network, drive, pong.positions * pong.period, substrate=substrate, start=state,
                     observe=Observe(state=True))  # fmt: skip
        state = record.state
        reached.append(float(record.recorded[PROGRAM]["reward"].value[0, 0]))
    assert record is not None
    assert state is not None
    return Learning(np.array(reached), state, record.weights["input_to_output"][0].double().numpy())


@dataclass
class Court:
    """A court of width 1 and height 1: a ball that walls reflect, a paddle at the bottom; one `step` per frame.

    width: of the paddle.  reach: how far it moves in a frame at most.
    """

    ball: NDArray[np.float64]
    velocity: NDArray[np.float64]
    paddle: float = 0.5
    width: float = 0.2
    reach: float = 0.1

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Court:
        """A ball at the top, which flies somewhere downwards."""
        return cls(np.array([random.uniform(), 1.0]), np.array([random.uniform(-0.04, 0.04), -0.05]))

    def step(self, goal: float) -> bool | None:
        """Move the paddle towards ``goal``, and the ball: whether it met the paddle, None where it is not down yet."""
        self.paddle += float(np.clip(goal - self.paddle, -self.reach, self.reach))
        self.ball = self.ball + self.velocity
        for axis, low in ((0, 0.0), (1, -np.inf)):
            if not low <= self.ball[axis] <= 1.0:
                self.velocity[axis] *= -1.0
                self.ball[axis] = 2.0 * (self.ball[axis] > 1.0) - self.ball[axis]
        if self.ball[1] > 0.0:
            return None
        self.ball[1], self.velocity[1] = -self.ball[1], -self.velocity[1]
        return bool(abs(self.ball[0] - self.paddle) <= 0.5 * self.width)


def play(pong: Pong, weight: NDArray[np.float64], frames: int, substrate: Substrate = IDEAL, seed: int = 0) -> float:
    """The share of the balls that a player with these weights (S, T) returns: court and network take turns.

    Each frame the network sees the ball for one presentation, going on from its last state; its winner is the goal.
    """
    learner = pong.network(seed)
    still = Projection("input", "output", torch.from_numpy(weight).float())
    network = Network({name: learner.populations[name] for name in ("input", "output")}, [still])
    court, state, met = Court.drawn(np.random.default_rng(seed)), None, list[bool]()
    goal = court.paddle
    for _ in range(frames):
        place = min(int(court.ball[0] * pong.positions), pong.positions - 1)
        drive = pong.drive(np.array([place]), 0.0 if state is None else state.time)["input"]
        record = run(network, drive, pong.period, substrate=substrate, start=state, observe=Observe(state=True))
        counts, state = record.count["output"][0].detach(), record.state
        if counts.any():
            goal = (int(counts.argmax()) + 0.5) / pong.positions
        hit = court.step(goal)
        if hit is not None:
            met.append(hit)
    return float(np.mean(met)) if met else 0.0
