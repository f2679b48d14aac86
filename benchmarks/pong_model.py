"""Pong without spikes: rates of neurons in place of a chip, to see what settings do over many chips within seconds.

    python benchmarks/pong_model.py

Counts of spikes are those of leaky neurons under a constant current, a sensor reads as much as its window gives on
average, with the chip's spread (log-normal, 0.6) of amplitudes and time constants; gains of neurons differ by 3 %.
What it says of settings was checked on twins (results/twin_rules.md); it is no twin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeloop.apps.pong import REWARDS, Pong, reward_of

Float = NDArray[np.float64]
TAU_MEM, TAU_SYN, REFRACTORY, WINDOW = 10e-3, 5e-3, 2e-3, 5e-3
STEPS, LARGEST, FULL = 64, 4 / 3, 128  # of weights; the largest one, of the threshold; of a sensor
SENSORS, GAIN = 0.6, 0.03
SETTINGS = {
    "winners": {},
    "ambition 0.1": {"ambition": 0.1},
    "ambition 0.2": {"ambition": 0.2},
    "noise from 20": {"noise": (20 / 64, 2 / 64)},
    "target 2": {"target": 2.0},
    "all three": {"ambition": 0.1, "noise": (20 / 64, 2 / 64), "target": 2.0},
    "all that spike": {"winners": False, "noise": (15 / 64, 4 / 64), "cooled": 250},
}


class Chips:
    """``batch`` players of ``pong``, each on a chip of its own."""

    def __init__(self, pong: Pong, batch: int, random: np.random.Generator) -> None:
        size = pong.positions
        self.pong, self.random, self.batch = pong, random, batch
        self.weight = np.clip(12 + 2 * random.standard_normal((batch, size, size)), 0, STEPS - 1)
        strength = np.exp(SENSORS * random.standard_normal((batch, size, size)))
        tau = WINDOW * np.exp(SENSORS * random.standard_normal((batch, size, size)))
        between = pong.interval / np.array(pong.spread)[:, None, None, None]
        self.reading = strength * tau / between * (1 - np.exp(-between / tau))  # of one spike, by distance
        self.gain = 1 + GAIN * random.standard_normal((batch, size))
        self.noise = np.zeros((batch, size))
        self.mean = np.zeros((batch, size))

    def epoch(self, number: int) -> Float:
        """(B,) mean expected reward after one more epoch, of the largest."""
        pong, spikes = self.pong, np.zeros_like(self.mean)
        first, last = (STEPS * each for each in pong.noise)
        sigma = first + (last - first) * min(number / pong.cooled, 1.0)
        for ball in self.random.permutation(pong.positions):
            spikes += self._play(ball, number >= pong.quiet)
            self.noise = np.clip(sigma * self.random.standard_normal(self.noise.shape), 0, STEPS)
        lack = np.clip(1 - spikes / (pong.target * pong.positions), -1, 1)
        self.weight = self._whole(self.weight + (pong.step * STEPS * lack)[:, None])
        return self.mean.mean(1) / REWARDS[0]

    def _play(self, ball: int, learns: bool) -> Float:
        pong = self.pong
        lines = np.arange(max(0, ball - len(pong.spread) + 1), min(pong.positions, ball + len(pong.spread)))
        away = np.abs(lines - ball)
        drive = np.einsum("l,bln->bn", np.array(pong.spread)[away], self.weight[:, lines]) + self.noise
        counts = self._counts(drive)
        most = counts.max(1)
        reward = np.array([reward_of(abs(place - ball)) for place in counts.argmax(1).tolist()])
        better = np.where(most > 0, reward, -1.0) - self.mean[:, ball]
        if learns:
            aim = better - pong.ambition * (REWARDS[0] - self.mean[:, ball])
            seen = np.stack([self.reading[d][:, line] for d, line in zip(away, lines, strict=True)], 1)
            read = np.minimum(np.rint(counts[:, None] * seen), FULL - 1) / FULL
            change = STEPS * pong.rate * aim[:, None, None] * read
            if pong.winners:
                change *= (counts >= most[:, None])[:, None]
            self.weight[:, lines] = self._whole(self.weight[:, lines] + change)
        self.mean[:, ball] += pong.decay * better
        return counts

    def _counts(self, drive: Float) -> Float:
        """Of a presentation; where the mean potential is just below the threshold, up to three by chance."""
        pong = self.pong
        potential = self.gain * drive / STEPS * LARGEST * TAU_SYN / pong.interval
        above = np.maximum(potential, 1 + 1e-9)
        rate = 1 / (TAU_MEM * np.log(above / (above - 1)) + REFRACTORY)
        expected = np.where(potential > 1, pong.events * pong.interval * rate, 15 * np.maximum(potential - 0.8, 0))
        return np.floor(expected + self.random.random(expected.shape))

    def _whole(self, weight: Float) -> Float:
        return np.clip(np.floor(weight + self.random.random(weight.shape)), 0, STEPS - 1)


def main(batch: int = 8, epochs: int = 300) -> None:
    """Print what the settings come to, mean and standard deviation over chips."""
    print(f"| settings | {' | '.join(f'epoch {at}' for at in (50, 100, 200, epochs))} |", "|---" * 5 + "|", sep="\n")
    base = Pong(noise=(15 / 64, 2 / 64), cooled=300, winners=True)
    for name, given in SETTINGS.items():
        chips = Chips(replace(base, **given), batch, np.random.default_rng(0))
        reward = np.array([chips.epoch(number) for number in range(epochs)])
        shown = " | ".join(f"{reward[at - 1].mean():.3f} ± {reward[at - 1].std():.3f}" for at in (50, 100, 200, epochs))
        print(f"| {name} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
