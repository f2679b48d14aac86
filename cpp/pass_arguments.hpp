// What the dense and the queue's passes are handed by Python of each population, and what they hand back of its neurons.
#pragma once
#include "arguments.hpp"
#include "results.hpp"

namespace spikeloop {

using StateIn = std::tuple<Array<double, 2>, Array<double, 2>, Array<double, 2>>;
using AnchorsIn = std::tuple<Array<double, 2>, Array<double, 2>, Array<double, 2>, Array<double, 2>>;
// what a population is asked for: silent neurons, start, end, anchors to go on from and to fill, sampling, peaks, count
using AskIn = std::tuple<Maybe<const uint8_t, 2>, std::optional<StateIn>, std::optional<StateIn>, std::optional<AnchorsIn>, std::optional<AnchorsIn>,
                         std::optional<SamplingIn>, std::optional<PeaksIn>, Maybe<float, 2>>;
// what the loss says of a population: its spikes, dL/dt of each, samples' and peaks' cotangents, start
using CotangentIn = std::tuple<TrainsIn, Array<double, 1>, std::optional<SamplingIn>, std::optional<PeaksIn>, std::optional<StateIn>>;

inline StateArrays state_of(const std::optional<StateIn>& in) {
    if (!in) return {};
    return {std::get<0>(*in).data(), std::get<1>(*in).data(), std::get<2>(*in).data()};
}

inline Anchors anchors_of(const std::optional<AnchorsIn>& in) {
    if (!in) return {};
    return {std::get<0>(*in).data(), std::get<1>(*in).data(), std::get<2>(*in).data(), std::get<3>(*in).data()};
}

inline const Maybe<float, 2>& count_of(const AskIn& in) { return std::get<7>(in); }

// Membranes the loss depends on, sample by sample.
inline std::vector<std::vector<MembraneCotangent>> membranes_of(const CotangentIn& in, int64_t batch) {
    std::vector<std::vector<MembraneCotangent>> out;
    const auto& samples = std::get<2>(in);
    const auto& peaks = std::get<3>(in);
    if (!samples && !peaks) return out;
    out.resize(batch);
    if (samples) {
        const Sampling s = sampling_of(samples);
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t k = 0; k < s.count; ++k)
                for (int64_t u = 0; u < s.units; ++u)
                    if (const double c = s.value[(b * s.count + k) * s.units + u]; c != 0)
                        out[b].push_back({s.times(b)[k], s.unit[u], c, false});
    }
    if (peaks) add_peaks(std::get<0>(*peaks).data(), std::get<1>(*peaks).data(), int64_t(std::get<0>(*peaks).shape(1)), out);
    return out;
}

// (6, neurons), as `Neurons` has them.
inline nanobind::object neuron_gradients(const std::vector<NeuronGradient>& gradients) {
    const size_t n = gradients.size();
    Made<double, 2> out(6, n);
    for (size_t m = 0; m < n; ++m) {
        const NeuronGradient& g = gradients[m];
        const double fields[] = {g.tau_mem, g.tau_syn, g.threshold, g.leak, g.reset, g.refractory};
        for (size_t f = 0; f < 6; ++f) out[f * n + m] = fields[f];
    }
    return out.to_python();
}

}  // namespace spikeloop
