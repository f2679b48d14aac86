// Neurons integrated in fixed steps: adaptive exponential ones and trees of compartments. For every compartment, with v = V - leak,
//   tau_mem v' = -v + slope_factor exp((V - exponential_threshold) / slope_factor) - w + sum_r I_r (1 - rho_r v) + J
//                + tau_mem sum_d (V_d - V) / (coupling capacitance)
//   tau_adaptation w' = a v - w,   tau_syn_r I_r' = -I_r,   rho_r = 1 / (reversal_r - leak), 0 where r is current-based.
#pragma once
#include <memory>
#include <optional>
#include <stdexcept>

#include "short_term.hpp"
#include "stage.hpp"

namespace spikeloop {

inline constexpr int kMaxCompartments = 32;  // of a neuron
inline constexpr int kMaxSlots = 96;         // receptors of all its compartments
inline constexpr double kSteppedStiff = 1.0; // no piece of a step is longer than this share of a membrane's time constant by conductances

// The rows of `SteppedCells::values`.
enum CellField { kTauMem, kThreshold, kLeak, kReset, kRefractory, kSlopeFactor, kExponentialThreshold, kTauAdaptation, kA, kB, kCapacitance, kCellFields };

// A population of N neurons with C compartments, each with K receptors.
struct SteppedCells {
    int64_t size = 0;
    int compartments = 1, receptors = 1, couplings = 0, output = 0;
    const double* values = nullptr;     // (kCellFields, C, N)
    const uint8_t* leaky = nullptr;     // (C,)
    const double* tau_syn = nullptr;    // (K, C, N)
    const double* reversal = nullptr;   // (K, C, N), NaN: current-based
    const int32_t* coupled = nullptr;   // (couplings, 2)
    const double* coupling = nullptr;   // (couplings, N), s
    const double* floor = nullptr;      // (C, N) or null: an arrival finds V no lower
    const double* most = nullptr;       // (C, N): largest |I| of a receptor right after an arrival
    const double* noise = nullptr;      // (C, N): rms of the membrane's noise
    const double* threshold_noise = nullptr;  // (C, N)
    const double* name = nullptr;       // (N,): chooses the streams
    uint64_t key = 0;
    double value(CellField f, int c, int64_t m) const { return values[(f * compartments + c) * size + m]; }
};

enum class SteppedDelay { common = 0, per_unit = 1, per_synapse = 2 };

// Synapses from `source` (a population of the stage, or -1: `trains`) to one receptor of one compartment of `target`.
template <class T>
struct SteppedLink {
    int source = -1, target = 0, receptor = 0, compartment = 0;
    Trains trains;                     // from outside, or recent spikes of a population of the stage
    const double* amplitude = nullptr; // (events of trains,) factor of each, or null
    int64_t size = 0;                  // units of the source
    const T* weight = nullptr;         // dense: (size, N); else a flat list
    const int64_t *begin = nullptr, *index = nullptr;  // rows of a sparse link; which weight, or null
    const int32_t* unit = nullptr;     // the target of each synapse; null: dense
    const double* delay = nullptr;
    SteppedDelay delays = SteppedDelay::common;
    Driver driver;                     // of a source within the stage; `amplitude` has the sizes of its recent events
    Drawn drawn;                       // in the reverse sweep, of any source with short-term plasticity
};

enum class Quantity { membrane = 0, adaptation = 1, current = 2 };

struct SteppedSampling {
    Quantity what = Quantity::membrane;
    Sampling at;                           // `value` (batch, count, units)
    const int32_t* compartment = nullptr;  // (units,)
};

// J of one compartment: (T,) ascending times and values (1 or batch, T, N).
struct SteppedCurrent {
    int compartment = 0;
    const double* time = nullptr;
    int64_t count = 0;
    const double* value = nullptr;
    bool per_sample = false;
};

// Everything that a step goes on from, as the kernel has it: v and w (batch, C, N), I (batch, K, C, N), when each compartment is
// released (absolute), the membrane's noise, what the threshold differs by, spikes so far (all batch, C, N).
template <class T>
struct SteppedState {
    T *v = nullptr, *w = nullptr, *i = nullptr;
    double *free = nullptr, *noise = nullptr, *shift = nullptr;
    int64_t* fired = nullptr;
};

template <class T>
struct SteppedPopulation {
    SteppedCells cells;
    const uint8_t* silent = nullptr;  // (batch, N): reset at a crossing, but send nothing
    SteppedState<T> start, end;       // or nulls
    std::vector<SteppedSampling> samplings;
    std::vector<SteppedCurrent> currents;
    Peaks peaks;                      // of the output compartment
    T* trace = nullptr;               // (batch, steps, C, N): v at the beginning of every step, for the reverse sweep, or null
};

struct SteppedRun {
    int64_t batch = 0, first = 0, steps = 0, spike_limit = 0;
    double step = 0;
    int threads = 1;
    // Of spikes from before, those sent from here on wait for the run where their delay is over sooner; the step before the run, if
    // not given. What was sent earlier and is over sooner has arrived.
    std::optional<double> settled{};
};

// A membrane or an adaptation that is no number at the end of a run: the steps are too long.
struct Divergence : std::runtime_error {
    int64_t sample, unit, population;
    Divergence(int64_t sample, int64_t unit, int64_t population)
        : std::runtime_error("divergence"), sample(sample), unit(unit), population(population) {}
};

// The spikes of all populations, by population and sample.
template <class T>
std::vector<SpikesPerSample> stepped_forward(const std::vector<SteppedPopulation<T>>& populations, const std::vector<SteppedLink<T>>& links,
                                             const SteppedRun& run);

// ---- the reverse sweep --------------------------------------------------------------------------------------------

// What a loss says of one population, and what was observed of it.
template <class T>
struct SteppedPull {
    Trains spikes;                           // of the output compartment, as observed
    const T* count = nullptr;                // (batch, N): dL/dcount, or null
    const T* push = nullptr;                 // (batch, steps, N): dL/dS of every step, from later stages, or null
    std::vector<SteppedSampling> samplings;  // `value`: cotangents of membranes
    Peaks peaks;                             // likewise
};

// What is wanted of one link: null where it is not.
template <class T>
struct SteppedPush {
    T* weight = nullptr;  // as the link's weights, added to
    T* source = nullptr;  // (batch, steps, size): dL/dS of an outside source, added to
};

// dL/d of everything that a population is described by, laid out as `SteppedCells`.
struct SteppedGradient {
    std::vector<double> values, tau_syn, reversal, coupling;
};

// The derivative of the smoothed model of stepped_smooth.inl: with T the states at all steps of some samples are kept in memory.
template <class T>
std::vector<SteppedGradient> stepped_backward(const std::vector<SteppedPopulation<T>>& populations, const std::vector<SteppedLink<T>>& links,
                                              const std::vector<SteppedPull<T>>& pulls, const std::vector<SteppedPush<T>>& pushes, double beta,
                                              const SteppedRun& run);

// Step k is from k h up to (k + 1) h: where a time lies, whatever rounding does.
inline int64_t step_of(double time, double h) {
    int64_t k = int64_t(std::floor(time / h));
    while (double(k + 1) * h <= time) ++k;
    while (double(k) * h > time) --k;
    return k;
}

}  // namespace spikeloop
