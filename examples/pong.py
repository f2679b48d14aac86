"""Learn Pong by reward: a rule on the processor beside the network finds winners, rewards them and tries out noise."""

import os

import matplotlib.pyplot as plt

from spikeloop import Ideal, OnChip, plot
from spikeloop.apps.pong import Pong, learn, play
from spikeloop.chip.twin import Twin

positions, epochs = (12, 60) if "QUICK" in os.environ else (32, 200)
place = OnChip(Twin(0, step=32)) if "TWIN" in os.environ else Ideal()
pong = Pong(positions, cooled=100 if positions == 12 else 500)

learning = learn(pong, epochs, place)
print(f"mean expected reward {learning.reward[-10:].mean():.2f} of the largest, at first {learning.reward[0]:.2f}")
print(f"{play(pong, learning.weight, 200, place):.0%} of the balls are returned")

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
plot.over_updates(learning.reward[:, None], "Mean expected reward / largest", 0.75, ax=left).set_xlabel("Epoch")
plot.weight_matrix(learning.weight, ax=right)
fig.savefig("pong.png", dpi=150)
