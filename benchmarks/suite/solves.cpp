// What one exact crossing costs: the engine's own solver, on neurons that all reach their threshold once in an interval.
#include <chrono>

#include "crossings.hpp"
#include "simd.hpp"

#define SPIKELOOP_KERNEL "crossings.inl"
#include "each_target.hpp"

// Seconds per spike where so many neurons are solved for together: whole vectors of them, or one alone.
extern "C" double solve_seconds(int neurons) {
    using namespace spikeloop;
    constexpr int kRounds = 5000;
    const Neuron neuron{1 / 20e-3, 1 / 5e-3, 1.0, 0.0, 0.0};
    const double most = response_peak(neuron.a, neuron.b);
    Pack pack;
    pack.begin(neuron, most, whole_ratio(neuron.a, neuron.b), true);
    std::vector<Spike> spikes;
    long count = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (int round = 0; round < kRounds; ++round) {
        spikes.clear();
        for (int k = 0; k < neurons; ++k) pack.add(neuron, most, {0.90 + 0.01 * (k % 8), 4.0 + 1e-3 * (round % 97), 0}, 0.0, 2e-3, &spikes, k);
        SPIKELOOP_BEST(advance(pack, 10));
        count += long(spikes.size());
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / double(count);
}
