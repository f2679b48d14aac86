// Neurons as a chip has them: every one with time constants of its own, currents that saturate, membranes with a floor
// and with noise, thresholds that differ from spike to spike. Single precision between crossings.
#pragma once
#include "dense.hpp"
#include "noise.hpp"

namespace spikeloop {

// Per neuron, (size,) each.
struct Disturbance {
    const double* floor = nullptr;            // an arrival finds V no lower than this (absolute potential)
    const double* most = nullptr;             // largest |I| right after an arrival
    const double* noise = nullptr;            // rms of the membrane's noise
    const double* threshold_noise = nullptr;  // rms of what is added to the threshold, drawn for every spike
    const double* name = nullptr;             // a whole number that chooses the neuron's random streams
    uint64_t key = 0;                         // which draw
    double tick = 0;                          // arrivals are mostly multiples of this apart, s

    uint64_t key_of(int64_t sample) const { return keyed(key, uint64_t(sample)); }
    // Neuron m's numbers in a sample of that key.
    Stream random(uint64_t sample_key, int64_t m) const { return {keyed(sample_key, uint64_t(name[m]))}; }
};

// Draws the noise that samples see of a neuron's membrane, beside its `random`: sampling changes no spike.
inline Stream seen_by_samples(const Stream& random) { return {random.key ^ 0x5851f42d4c957f2dull}; }

// `request.silent` are neurons whose spikes are not sent: they are reset all the same. What is returned is kept until this
// thread's next call of either.
const SpikesPerSample& disturbed_forward(const std::vector<DenseSource<float>>& sources, const Neurons& neurons,
                                         const Disturbance& disturbance, const Request& request);

// The same for neurons that reach each other by `weight` (size, size).
const SpikesPerSample& disturbed_loop(const std::vector<DenseSource<float>>& sources, const float* weight, const Neurons& neurons,
                                      const Disturbance& disturbance, const Request& request);

}  // namespace spikeloop
