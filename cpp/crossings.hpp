// Neurons on their way through intervals without arrivals, each through its own: `advance` of lif.hpp for vectors of them.
#pragma once
#include <concepts>
#include <numeric>

#include "stage.hpp"

namespace spikeloop {

// Neurons side by side, each where it stands: at `time` with `v` (relative to leak) and `i`, held until `free`, bound for
// `until`. None of them may rise to its threshold without input.
struct Pack {
    static constexpr int kRoom = 256;
    static constexpr int kPlaces = kRoom + 8;  // arrays a power of two apart would share lines of the cache
    alignas(64) double time[kPlaces], until[kPlaces], v[kPlaces], i[kPlaces], free[kPlaces];
    alignas(64) double a[kPlaces], b[kPlaces], peak[kPlaces], threshold[kPlaces], reset[kPlaces], refractory[kPlaces];
    alignas(64) double ahead[kPlaces];  // how far the end is, as solving has it
    int32_t place[kRoom];           // of each in what follows
    double told[kRoom];             // its spikes until then are known already
    std::vector<Spike>* to[kRoom];  // where those that are not go; null: nowhere
    int32_t unit[kRoom];            // as whose they go there
    State end[kRoom];               // where each is at the end of the interval
    int32_t spikes[kRoom];          // how many it emitted that are not known
    bool fired[kRoom];              // whether it emitted any at all
    int count = 0;
    int ratio = 0;       // see `whole_ratio`, where they have the same
    bool alike = false;  // all are one kind of neuron, whose numbers are in every place

    // Empty, for neurons of one ratio of time constants; `n`, and its response_peak `most`, is one of them.
    void begin(const Neuron& n, double most, int one_ratio, bool all_alike) {
        count = 0, ratio = one_ratio, alike = all_alike;
        for (int k = 0; alike && k < kRoom; ++k) describe(k, n, most);
    }
    // From `now` until `then`; `most`: the neuron's response_peak; its spikes go to `sent`, those until `known` do not.
    void add(const Neuron& n, double most, const State& s, double now, double then, std::vector<Spike>* sent, int64_t as, double known = -kInfinity) {
        const int k = count++;
        time[k] = now, until[k] = then, v[k] = s.v, i[k] = s.i, free[k] = s.free, told[k] = known, to[k] = sent;
        unit[k] = int32_t(as);
        if (!alike) describe(k, n, most);
    }
    void copy(int from, int to) {
        a[to] = a[from], b[to] = b[from], peak[to] = peak[from], threshold[to] = threshold[from], reset[to] = reset[from];
        refractory[to] = refractory[from];
    }

private:
    void describe(int k, const Neuron& n, double most) {
        a[k] = n.a, b[k] = n.b, peak[k] = most, threshold[k] = n.threshold, reset[k] = n.reset, refractory[k] = n.refractory;
    }
};

}  // namespace spikeloop
