// What the kernels are handed: plain views of arrays that the caller keeps alive.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "lif.hpp"

namespace spikeloop {

// Spike trains of a batch: sample s owns rows start[s] .. start[s + 1].
struct Trains {
    const double* time = nullptr;
    const int32_t* unit = nullptr;
    const int64_t* start = nullptr;
    int64_t size(int64_t sample) const { return start[sample + 1] - start[sample]; }
    // The time of the last event of all `batch` samples, each in order; 0 where there is none.
    double latest(int64_t batch) const {
        double last = 0;
        for (int64_t s = 0; s < batch; ++s)
            if (start[s + 1] > start[s]) last = std::max(last, time[start[s + 1] - 1]);
        return last;
    }
    // How many events each unit has, (batch, size).
    void count(int64_t batch, int64_t size, float* out) const {
        std::fill_n(out, batch * size, 0.0f);
        for (int64_t s = 0; s < batch; ++s)
            for (int64_t e = start[s]; e < start[s + 1]; ++e) {
                if (unit[e] < 0 || unit[e] >= size) throw std::out_of_range("an event of a unit that does not exist");
                out[s * size + unit[e]] += 1;
            }
    }
};

struct Neurons {
    int64_t size = 0;
    const double *tau_mem, *tau_syn, *threshold, *leak, *reset, *refractory;
    bool spiking = true;
    Neuron operator[](int64_t m) const {
        return {1.0 / tau_mem[m], 1.0 / tau_syn[m], threshold[m] - leak[m], reset[m] - leak[m], refractory[m]};
    }
    bool one_tau() const {
        for (int64_t m = 1; m < size; ++m)
            if (tau_mem[m] != tau_mem[0] || tau_syn[m] != tau_syn[0]) return false;
        return true;
    }
    // Of the one pair of time constants, see `whole_ratio`; 0 where they differ.
    int ratio() const { return size > 0 && one_tau() ? whole_ratio((*this)[0].a, (*this)[0].b) : 0; }
};

// Where and when membranes are sampled: `count` ascending times (row s of `time` if `per_sample`), `units` neurons.
struct Sampling {
    const double* time = nullptr;
    int64_t count = 0;
    bool per_sample = false;
    const int32_t* unit = nullptr;
    int64_t units = 0;
    double* value = nullptr;  // (batch, count, units), absolute potentials
    const double* times(int64_t sample) const { return time + (per_sample ? sample * count : 0); }
};

// Highest membrane of each neuron, (batch, size); absent where `value` is null.
struct Peaks {
    double* time = nullptr;
    double* value = nullptr;
};

// State of every neuron, (batch, size) each: V (absolute), I, and how much longer V is held at reset.
struct StateArrays {
    double *membrane = nullptr, *current = nullptr, *held = nullptr;
};

// Where the neurons of a population were when something last happened to them, (batch, size) each: the time, v (relative to
// leak) and I right after, and when V is free. A run that goes on from there is the same as if it had not been cut.
struct Anchors {
    double *time = nullptr, *v = nullptr, *i = nullptr, *free = nullptr;
    void keep(int64_t slot, double at, const State& s) const { time[slot] = at, v[slot] = s.v, i[slot] = s.i, free[slot] = s.free; }
    State operator[](int64_t slot) const { return {v[slot], i[slot], free[slot]}; }
};

struct Spike {
    double time;
    int32_t unit;
    float current = 0;  // of the neuron right then, from the kernels of dense stages: its adjoint need not sum it up again
};
struct Earlier {
    bool operator()(const Spike& x, const Spike& y) const { return x.time < y.time || (x.time == y.time && x.unit < y.unit); }
};

using SpikesPerSample = std::vector<std::vector<Spike>>;

// What a forward pass is asked for and the bounds it keeps; the same for both kernels.
struct Request {
    int64_t batch = 0;
    double begin = 0, until = 0;      // s
    const uint8_t* silent = nullptr;  // (batch, size): neurons that may not spike
    StateArrays start;                // at the beginning, or nulls: at rest
    StateArrays end;                  // to be filled, or nulls
    Anchors from, to;                 // to continue from rather than from `start`, or nulls; to be filled, or nulls
    Sampling sampling;
    Peaks peaks;
    int64_t spike_limit = 0;  // per neuron and sample
    int threads = 1;
};

struct Explosion : std::runtime_error {
    int64_t sample, unit, stage;  // stage: which of those of the call
    Explosion(int64_t sample, int64_t unit, int64_t stage = 0)
        : std::runtime_error("activity explosion"), sample(sample), unit(unit), stage(stage) {}
};

// At time `begin`.
inline State initial_state(const Neuron& n, const StateArrays& start, double leak, int64_t slot, double begin = 0) {
    if (!start.membrane) return {n.initial(), 0.0, begin};
    return {start.membrane[slot] - leak, start.current[slot], begin + start.held[slot]};
}

// At time `now`.
inline void store_state(const StateArrays& end, int64_t slot, const State& s, double leak, double now) {
    if (!end.membrane) return;
    end.membrane[slot] = s.v + leak;
    end.current[slot] = s.i;
    end.held[slot] = std::max(s.free - now, 0.0);
}

// One membrane sample's or peak's cotangent: L's derivative with respect to V of `unit` at `time`.
struct MembraneCotangent {
    double time;
    int32_t unit;
    double value;
    bool peak;  // of a peak: the arrival that ends the rise moves it
};

// The cotangents `value` of peaks at `time`, (samples, size) each, added to those of every sample.
inline void add_peaks(const double* time, const double* value, int64_t size, std::vector<std::vector<MembraneCotangent>>& out) {
    for (auto& sample : out) {
        sample.reserve(sample.size() + size_t(size));
        for (int64_t m = 0; m < size; ++m)
            if (value[m] != 0) sample.push_back({time[m], int32_t(m), value[m], true});
        time += size, value += size;
    }
}

// What an adjoint pass is handed about its own population's record, beside the arrivals. All times are on the clock of the
// run, which began at `begin`; inside an adjoint they are counted from there.
struct Backward {
    int64_t batch = 0;
    double begin = 0, duration = 0;
    Trains spikes;               // the population's own, as observed
    const float* current = nullptr;  // (spikes,) of the neuron at each, where that is known
    double* time_cotangent = nullptr;  // (spikes,) dL/dt; recurrent arrivals and releases are added to it
    std::vector<std::vector<MembraneCotangent>> membrane;  // per sample; may be empty
    StateArrays start;
    double slope_floor = 0;
    bool want_neuron = true, want_tau = false;  // any neuron parameter's gradient; a time constant's, which needs integrals
    int threads = 1;
};

}  // namespace spikeloop
