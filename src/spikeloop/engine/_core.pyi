"""The native engine (cpp/bindings.cpp): event-driven forward and adjoint passes over C-contiguous NumPy arrays.

The weights of one call are all float32 or all float64. Neurons: (6, N), rows as in `arrays.FIELDS`.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikeloop.engine.arrays import Float, Trains, Weights

# trains, or the number of the stage in the call that they come from; weight (N_source, N); delay (1,) or (N_source,)
_DenseSource: TypeAlias = tuple[Trains | int, Weights, Float]

# used, tau, base, slope, x at the latest events, when these were, sizes of recent ones; sizes, slopes, kept of spikes
_Driver: TypeAlias = tuple[Float, Float, Float, Float, Float, Float, Float, Float]

# trains from outside the stage, first source neuron (-1: outside), first target neuron, begin, target, weight index,
# weight, delay, kind of delay, short-term plasticity within the stage
_QueueSource: TypeAlias = tuple[
    Trains | None,
    int,
    int,
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int64] | None,
    Weights,
    Float,
    int,
    _Driver | None,
]
_Population: TypeAlias = tuple[Float, bool]  # neurons, spiking
_State: TypeAlias = tuple[Float, Float, Float]  # membrane, current, held: (B, N)
_Sampling: TypeAlias = tuple[Float, NDArray[np.int32], Float]  # time (1 or B, T), unit (M,), value (B, T, M)
_Peaks: TypeAlias = tuple[Float, Float]  # time, value: (B, N)

_Anchors: TypeAlias = tuple[Float, Float, Float, Float]  # time, V - leak, current, free: (B, N)

# silent, start, end, anchors to go on from, anchors reached, sampling, peaks, count; all but the first two and the
# former anchors are filled
_Ask: TypeAlias = tuple[
    NDArray[np.uint8] | None,
    _State | None,
    _State | None,
    _Anchors | None,
    _Anchors | None,
    _Sampling | None,
    _Peaks | None,
    NDArray[np.float32] | None,
]

# spikes, dL/dt of each (added to), cotangents of samples and peaks, start
_Cotangent: TypeAlias = tuple[Trains, Float, _Sampling | None, _Peaks | None, _State | None]

# sources, neurons, spiking, cotangent, currents at the spikes where they are known; by source, what dL/dweight and
# dL/dt of the arrivals are added to: weights, times of its own, those of the population it listens to; whether
# gradients of neuron parameters, of time constants are wanted
_DenseBack: TypeAlias = tuple[
    Sequence[_DenseSource],
    Float,
    bool,
    _Cotangent,
    NDArray[np.float32] | None,
    Sequence[Weights | None],
    Sequence[Float | None],
    Sequence[Float | None],
    bool,
    bool,
]

# dL/d neurons (6, N), spikes passed, spikes at which the slope floor acted
_NeuronGradients: TypeAlias = tuple[Float, int, int]

class Explosion(RuntimeError):
    """A neuron passed the limit of spikes; args: sample, neuron, stage of the call."""

def dense_forward(
    stages: Sequence[tuple[Sequence[_DenseSource], Float, bool, _Ask]],
    batch: int,
    begin: float,
    until: float,
    spike_limit: int,
    threads: int,
) -> list[tuple[Trains, NDArray[np.float32] | None]]:
    """The spikes of populations that only listen to earlier ones, through dense projections, and in float32 the current
    at each.

    stages: sources, neurons, whether they spike, and what is asked.
    """

def dense_adjoint(
    stages: Sequence[_DenseBack], batch: int, begin: float, duration: float, slope_floor: float, threads: int
) -> list[_NeuronGradients]:
    """The adjoint of `dense_forward`'s stages, given in the same order; weights and times are added to."""

# beta1, beta2, epsilon, decay, maximise; the rate of each step; flat: weights, mean, square, gradient, steps taken
_Moments: TypeAlias = tuple[Weights, Weights, Weights, Weights, float]
_Adam: TypeAlias = tuple[tuple[float, float, float, float, bool], Float, Sequence[_Moments]]

def dense_steps(
    stages: Sequence[tuple[Sequence[_DenseSource], Float, bool, NDArray[np.uint8] | None, Sequence[Weights | None]]],
    duration: float,
    spike_limit: int,
    loss: float | tuple[float, float, float, float],
    readout: int,
    label: NDArray[np.int64],
    slope_floor: float,
    tell: bool,
    threads: int,
    size: int,
    adam: _Adam | None,
) -> tuple[list[tuple[float, int, int]], tuple[int, int], bool, list[Trains] | None, NDArray[np.uint8] | None]:
    """For each ``size`` samples `dense_forward` from rest, a loss of what stage `readout` answers, `dense_adjoint`, and
    a step of ``adam``; see `spikeloop.engine.step.Descent`.

    stages: sources, neurons, whether they spike, which may not, and by source what dL/dweight is added to; zeros after
    a step of ``adam``. loss: the scale of `cross_entropy` of peaks, or the last four numbers of
    `first_spike_cross_entropy`. Returned are, of each step, the loss, how many answers are right, and how many spikes
    were sent; of all, how many spikes the adjoint passed, and at how many the slope floor acted; whether the last
    gradients wait; the last spikes of each stage, if they are to be told or a label's unit is silent, and which are.
    Raises Explosion.
    """

def adam_step(adam: _Adam, threads: int) -> None:
    """The first of its steps."""

def queue_forward(
    sources: Sequence[_QueueSource],
    populations: Sequence[_Population],
    batch: int,
    begin: float,
    until: float,
    asks: Sequence[_Ask],
    spike_limit: int,
    threads: int,
) -> list[Trains]:
    """The spikes of populations that may be in a loop, through sparse or per-synapse-delayed projections."""

def queue_adjoint(
    sources: Sequence[_QueueSource],
    populations: Sequence[_Population],
    batch: int,
    begin: float,
    duration: float,
    cotangents: Sequence[_Cotangent],
    weight: Sequence[Weights | None],
    delay: Sequence[Float | None],
    time: Sequence[Float | None],
    want_tau: bool,
    slope_floor: float,
    threads: int,
) -> _NeuronGradients:
    """Its adjoint; dL/dweight, dL/ddelay (one a synapse) and dL/dt of outside events are added to the arrays given."""

def first_spike_cross_entropy(
    spikes: Trains,
    label: NDArray[np.int64],
    units: int,
    tau0: float,
    tau1: float,
    alpha: float,
    steepest: float,
    silent: NDArray[np.uint8],
    by_time: Float,
) -> float:
    """The loss of cpp/losses.hpp, NaN if a label names no unit; `silent` (batch,) and `by_time` are filled."""

def cross_entropy(value: Weights, label: NDArray[np.int64], scale: float, slope: Weights) -> float:
    """-log softmax(scale * value)[label], NaN if a label names no unit; `slope` is filled."""

def finite(arrays: Sequence[Weights]) -> bool:
    """Whether no number in these flat arrays is NaN or infinite."""

def counts(trains: Trains, size: int) -> NDArray[np.float32]:
    """(B, size): the number of events of each unit."""

def instruction_set() -> str:
    """Which the kernels run with: plain, avx2 or avx512; "only" where they were compiled for one.

    SPIKELOOP_TARGET, in the environment when the module is first used, names the best one allowed.
    """

def gathered(trains: Trains, index: NDArray[np.int64], threads: int) -> Trains:
    """The samples ``index``, one after the other."""

def latest(trains: Trains) -> float:
    """The time of the last event of all samples, each in order; 0 where there is none."""

def disturbed_forward(
    sources: Sequence[tuple[Trains, NDArray[np.float32]]],
    loop: NDArray[np.float32] | None,
    neurons: Float,
    disturbance: Float,
    run: tuple[int, float, float, int, int, int],
    silent: NDArray[np.uint8] | None,
    sampling: _Sampling | None,
) -> Trains:
    """The spikes of neurons with noise and limits; run: batch, duration, tick, key, spike limit, threads."""

def served(events: Trains, buses: int, depth: float, threads: int) -> Float:
    """The cycle in which each event (cycle, bus, start) is passed on, negative for those that are lost."""

def sent(
    events: Trains, seconds: float, of: NDArray[np.int64], depth: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """In which whole cycles events are sent, rounded, but put off as in `hold_back`, and the address of each."""

def hold_back(cycle: NDArray[np.int64], start: NDArray[np.int64], depth: int) -> None:
    """Puts off events so that no more than `depth` wait for a link that passes one a cycle; changes `cycle`."""

def in_order(
    events: tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.uint16], NDArray[np.int64]], threads: int
) -> bool:
    """Whether events (cycle, address, start) surely are what a chip takes."""

def entered(
    events: tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.int64]],
    source: NDArray[np.int32],
    how: tuple[int, int, float, int],
    lost: NDArray[np.int64],
    threads: int,
) -> tuple[Float, NDArray[np.int32], bool]:
    """Seconds at which events (cycle, address, start) have come in, negative for those that have not; their sources,
    and whether all are known; how: links, depth, seconds of a cycle, cycles; `lost` is counted on."""

def left(
    spikes: Trains,
    exit: tuple[
        Float | None,
        float,
        NDArray[np.uint8],
        NDArray[np.int32] | None,
        int,
        float,
        float,
        float,
        int,
        NDArray[np.int64],
    ],
    lost: NDArray[np.int64],
    threads: int,
) -> tuple[Trains, NDArray[np.int64], NDArray[np.uint16]]:
    """Spikes as they leave, their time stamps and addresses; `lost` is counted on.

    exit: delays and their rms, who sends, whose bus, buses, depth, seconds of a cycle, duration, cycles, labels.
    """

def lifted(
    cycle: NDArray[np.int64],
    address: NDArray[np.uint16],
    start: NDArray[np.int64],
    units: NDArray[np.int32],
    period: float,
    threads: int,
) -> Trains:
    """Events from time stamps and addresses, of those addresses that have a unit, not -1; -2 and beyond: an error."""

def uniforms(key: int, count: int, number: int) -> Float:
    """The `number`-th uniform number of each of the first `count` streams of `key`."""

def keyed(key: int, coordinate: int) -> int:
    """The stream `coordinate` of the stream `key`."""

def keyed_each(key: NDArray[np.uint64], coordinate: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The stream `coordinate` of the stream `key`, pair by pair."""

def uniforms_of(stream: NDArray[np.uint64], number: int) -> Float:
    """The `number`-th uniform number of each stream."""

def normals(key: int, count: int) -> Float:
    """Standard normal numbers of the stream `key`."""

def converted(potential: Float, slope: Float, base: Float, rms: float, key: int, threads: int) -> NDArray[np.uint8]:
    """Readings 0..255 of potentials (batch, times, channels): slope x potential + base, and noise of ``rms``."""

def rounded(
    weight: Weights, unit: Weights, most: int, exact: float, code: NDArray[np.int32], executed: Weights
) -> tuple[int, int, float]:
    """Weights as whole numbers of their unit (targets,); fills code, executed; beyond, between, sum of squares."""

def lay(
    code: NDArray[np.int32], place: NDArray[np.int64], row: int, rows: int, below: int, array: NDArray[np.uint8]
) -> None:
    """Writes what row pair `row` of `rows` has of the codes at `place`, or `below` further where it is negative."""

def wire(
    code: NDArray[np.uint8],
    height: NDArray[np.float32],
    synapse: NDArray[np.int32],
    first: NDArray[np.int32],
    weight: NDArray[np.float32],
    threads: int,
) -> None:
    """Fills `weight` with sums of code x height, of cell c over synapse[first[c] : first[c + 1]]."""

def highest(reading: NDArray[np.uint8], value: NDArray[np.uint8], which: NDArray[np.int64], threads: int) -> None:
    """Fills (batch, channels): the highest of readings (batch, times, channels), and which it is."""

def correlate(
    arrivals: tuple[Float, NDArray[np.int32]],
    spikes: tuple[Float, NDArray[np.int32]],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    targets: tuple[NDArray[np.int64], NDArray[np.int64]],
    target: NDArray[np.int32],
    arrival: Float,
    spike: Float,
    causal: tuple[Float, Float, Float],
    anticausal: tuple[Float, Float, Float],
    full: float,
) -> None:
    """Lets arrivals at rows and spikes of targets pass: changes arrival, spike and the values of both sensors.

    rows, targets: begins and synapses of each.  sensors: values, amplitudes, 1 / tau.  full: where they saturate.
    """

def meet(
    time: Float,
    unit: NDArray[np.int32],
    start: NDArray[np.int64],
    used: Float,
    tau: Float,
    first: Float,
    last: Float,
    found: Float,
    previous: NDArray[np.int64],
) -> None:
    """Fills x, decay, x before in `found` (3, E) and the events before; brings first, last (B, S) up to date."""

# times, units, starts; x, the event before, step of each; used, tau, base, slope; x before the run, and since when
_Drawn: TypeAlias = tuple[
    Float,
    NDArray[np.int32],
    NDArray[np.int64],
    Float,
    NDArray[np.int64],
    NDArray[np.int64],
    Float,
    Float,
    Float,
    Float,
    Float,
    Float,
]
# dL/dx ahead, coming and latest events (B, S), next (B,)
_DrawnState: TypeAlias = tuple[Float, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

def set_out(of: _Drawn, state: _DrawnState) -> None:
    """Fills ``state`` for a sweep back from the end."""

def draw_back_single(
    of: _Drawn, state: _DrawnState, first: int, origin: Float, step: float, by_size: Float, felt: NDArray[np.float32]
) -> None:
    """Passes the steps from ``first`` on, the last one first; felt: (steps, B, S), changed to dL/dS."""

def draw_back_double(
    of: _Drawn, state: _DrawnState, first: int, origin: Float, step: float, by_size: Float, felt: Float
) -> None:
    """The same in double precision."""

def multiply(
    weight: NDArray[np.int8],
    activation: NDArray[np.uint8],
    synapses: tuple[NDArray[np.float32], int, int, NDArray[np.float32]],
    column: NDArray[np.float32],
    readout: tuple[float, float, float, int],
    threads: int,
) -> NDArray[np.int8]:
    """Activations (batch, rows) times weights (rows, columns) in a part of the array; column: (4, columns)."""

# values (11, C, N), leaky (C,), tau_syn and reversal (K, C, N), couplings (L, 2), coupling (L, N), output, disturbance
_Cells: TypeAlias = tuple[
    Float,
    NDArray[np.uint8],
    Float,
    Float,
    NDArray[np.int32],
    Float,
    int,
    tuple[Float, Float, Float, Float, Float, int] | None,
]
# short-term plasticity: used, tau, base, slope, x at the latest events, when; on a grid: x, the event before, step
_SteppedDriver: TypeAlias = tuple[Float, Float, Float, Float, Float, Float]
_SteppedDrawn: TypeAlias = tuple[Float, NDArray[np.int64], NDArray[np.int64], _SteppedDriver]
# ends: source (-1: outside), target, receptor, compartment, trains, amplitudes, short-term plasticity; synapses: row
# begins, targets, weight index, weights, delays, kind of delays, units of the source
_SteppedLink: TypeAlias = tuple[
    tuple[int, int, int, int, Trains | None, Float | None, _SteppedDriver | None, _SteppedDrawn | None],
    tuple[NDArray[np.int64] | None, NDArray[np.int32] | None, NDArray[np.int64] | None, Weights, Float, int, int],
]
# membrane, adaptation, current, free, noise, shift, fired
_SteppedState: TypeAlias = tuple[Weights, Weights, Weights, Float, Float, Float, NDArray[np.int64]]
# silent, start, end, samplings, currents, peaks, count
_SteppedAsk: TypeAlias = tuple[
    NDArray[np.uint8] | None,
    _SteppedState | None,
    _SteppedState | None,
    Sequence[tuple[int, Float, NDArray[np.int32], NDArray[np.int32], Float]],
    Sequence[tuple[int, Float, Float]],
    _Peaks | None,
    NDArray[np.float32] | None,
]

class Divergence(RuntimeError):
    """A neuron that is run in steps is no number at the end; args: sample, neuron, population of the call."""

def stepped_forward_single(
    cells: Sequence[_Cells],
    links: Sequence[_SteppedLink],
    run: tuple[int, int, int, int, float, int],
    asks: Sequence[_SteppedAsk],
) -> list[Trains]:
    """The spikes of a stage in fixed steps, float32; run: batch, first step, steps, spike limit, step, threads."""

def stepped_forward_double(
    cells: Sequence[_Cells],
    links: Sequence[_SteppedLink],
    run: tuple[int, int, int, int, float, int],
    asks: Sequence[_SteppedAsk],
) -> list[Trains]:
    """The same in float64."""

# spikes, dL/dcount, dL/dS of every step, cotangents of samples, of peaks
_SteppedPull: TypeAlias = tuple[
    Trains,
    Weights | None,
    Weights | None,
    Sequence[tuple[int, Float, NDArray[np.int32], NDArray[np.int32], Float]],
    _Peaks | None,
]

def stepped_backward_single(
    cells: Sequence[_Cells],
    links: Sequence[_SteppedLink],
    run: tuple[int, int, int, int, float, int],
    asks: Sequence[_SteppedAsk],
    pulls: Sequence[_SteppedPull],
    pushes: Sequence[tuple[Weights | None, Weights | None]],
    beta: float,
) -> list[tuple[Float, Float, Float, Float]]:
    """Its surrogate gradients: cells, tau_syn, reversal, coupling; pushes (weights, outside sources) are added to."""

def stepped_backward_double(
    cells: Sequence[_Cells],
    links: Sequence[_SteppedLink],
    run: tuple[int, int, int, int, float, int],
    asks: Sequence[_SteppedAsk],
    pulls: Sequence[_SteppedPull],
    pushes: Sequence[tuple[Weights | None, Weights | None]],
    beta: float,
) -> list[tuple[Float, Float, Float, Float]]:
    """The same in float64."""
