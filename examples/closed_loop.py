"""A closed loop: an environment looks at what neurons did, and acts on them while their membranes stay as they are.

Two neurons push a ball left and right along a line; every 5 ms the environment tells them where it is.
"""

import torch

from spikeloop import LIF, Events, Network, Observe, Population, Projection, run

SEGMENT, SEGMENTS = 5e-3, 40
network = Network(
    {"position": Population(2), "push": Population(2, LIF(tau_mem=20e-3, tau_syn=5e-3, refractory=1e-3))},
    [
        Projection("position", "push", 2.5 * torch.eye(2), delay=1.5e-3),  # left of the middle: to the right
        Projection("push", "push", torch.tensor([[0.0, -1.0], [-1.0, 0.0]]), delay=0.5e-3),
    ],
)


def events(place: float, begin: float) -> Events:
    """What the environment tells: the farther the ball is from the middle, the more events."""
    number = min(int(abs(place) * 20), 20)
    times = [begin + SEGMENT * k / number for k in range(number)]
    return Events.from_lists([times], [[0 if place < 0 else 1] * number], size=2)


state, place, told, pushes = None, -0.8, [], []
for _ in range(SEGMENTS):
    begin = 0.0 if state is None else state.time
    told.append(events(place, begin))
    with torch.no_grad():
        record = run(network, told[-1], SEGMENT, start=state, observe=Observe(state=True))
    state = record.state
    pushes.append(record.spikes["push"])
    right, left = record.count["push"][0].tolist()
    place += 0.04 * (right - left)

# The whole course again, in one run on the events that the environment sent: the same spikes, bit for bit.
assert state is not None
times, units = (torch.cat([getattr(e, name) for e in told]) for name in ("time", "unit"))
whole = run(network, Events.from_lists([times], [units], size=2), state.time)
same = torch.equal(torch.cat([e.time for e in pushes]), whole.spikes["push"].time.detach())
print(f"the ball is at {place:+.2f} after {state.time * 1e3:.0f} ms and {len(whole.spikes['push'].time)} spikes")
print(f"in one run the spikes are the same, bit for bit: {same}")
