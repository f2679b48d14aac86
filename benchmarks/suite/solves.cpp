// What one exact crossing costs: the engine's own solver, on neurons that all reach their threshold once in an interval.
#include <chrono>

#include "crossings.hpp"
#include "simd.hpp"

#define SPIKELOOP_KERNEL "crossings.inl"
#include "each_target.hpp"

// Seconds per spike where `lanes` of the eight neurons of a vector spike.
extern "C" double solve_seconds(int lanes) {
    using namespace spikeloop;
    constexpr int kRounds = 20000;
    const Neuron neuron{1 / 20e-3, 1 / 5e-3, 1.0, 0.0, 0.0};
    const double most = response_peak(neuron.a, neuron.b);
    Pack pack;
    std::vector<Spike> spikes;
    long count = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (int round = 0; round < kRounds; ++round) {
        spikes.clear();
        for (int l = 0; l < lanes; ++l) pack.add(neuron, most, {0.90 + 0.01 * l, 4.0 + 1e-3 * (round % 97), 0}, 0.0);
        SPIKELOOP_BEST(advance(pack, 2e-3, 10, spikes));
        count += long(spikes.size());
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / double(count);
}
