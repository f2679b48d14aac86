// Neurons on their way through intervals without arrivals, each through its own: `advance` of lif.hpp for vectors of them.
#pragma once
#include <concepts>
#include <numeric>

#include "stage.hpp"

namespace spikeloop {

// Neurons side by side, each where it stands: at `time` with `v` (relative to leak) and `i`, held until `free`, bound for
// `until`. None of them may rise to its threshold without input.
struct Pack {
    static constexpr int kRoom = 256, kGroup = 8;   // neurons that go side by side
    static constexpr int kPlaces = kRoom + kGroup;  // a group may begin anywhere; arrays a power of two apart would share lines of the cache
    alignas(64) double time[kPlaces], until[kPlaces], v[kPlaces], i[kPlaces], free[kPlaces];
    alignas(64) double a[kPlaces], b[kPlaces], peak[kPlaces], threshold[kPlaces], reset[kPlaces], refractory[kPlaces];
    alignas(64) double ahead[kPlaces];  // how far the end is, as solving has it
    alignas(64) double told[kPlaces];   // its spikes until then are known already
    alignas(64) int64_t place[kPlaces];  // of each in what follows
    std::vector<Spike>* to[kRoom];       // where spikes that are not known go; null: nowhere
    int32_t unit[kRoom];                 // as whose they go there
    int32_t spikes[kRoom];               // how many those are
    uint8_t fired[kRoom / kGroup];       // one bit each: whether it emitted any at all
    alignas(64) double end_v[kPlaces], end_i[kPlaces], end_free[kPlaces];  // where each is at the end of the interval
    // Spikes on their way to where they go.
    alignas(64) double sent_time[kPlaces], sent_current[kPlaces];
    alignas(64) int64_t sent_place[kPlaces];
    int sent = 0;  // how many
    int count = 0;
    int ratio = 0;       // see `whole_ratio`, where they have the same
    bool alike = false;  // all are one kind of neuron, whose numbers are in the places of the first group

    // Empty, for neurons of one ratio of time constants; `n`, and its response_peak `most`, is one of them.
    void begin(const Neuron& n, double most, int one_ratio, bool all_alike) {
        count = sent = 0, ratio = one_ratio, alike = all_alike;
        for (int k = 0; alike && k < kGroup; ++k) describe(k, n, most);
    }
    // `most`: the neuron's response_peak; `as` whose its spikes are sent. Its `time`, `until`, `told` and `to` are the caller's to set.
    void add(const Neuron& n, double most, const State& s, int64_t as) {
        const int k = count++;
        v[k] = s.v, i[k] = s.i, free[k] = s.free, unit[k] = int32_t(as);
        if (!alike) describe(k, n, most);
    }
    // From `now` until `then`; its spikes go to `receiver`.
    void add(const Neuron& n, double most, const State& s, double now, double then, std::vector<Spike>* receiver, int64_t as) {
        time[count] = now, until[count] = then, told[count] = -kInfinity, to[count] = receiver;
        add(n, most, s, as);
    }
    bool has_fired(int k) const { return fired[k / kGroup] >> k % kGroup & 1; }
    State end(int k) const { return {end_v[k], end_i[k], end_free[k]}; }
    // Sends those spikes.
    void send() {
        for (int k = 0; k < sent; ++k) {
            const int64_t from = sent_place[k];
            ++spikes[from];
            if (to[from]) to[from]->push_back({sent_time[k], unit[from], float(sent_current[k])});
        }
        sent = 0;
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
