// The sweep of dense_forward.cpp for neurons that all differ: flows come from tables over multiples of the tick, which are
// composed, so that no exponential is computed per interval.
#include "disturbed.hpp"
#include "disturbed_lane.hpp"
#include "flow_table.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr float kSlack = 1e-5f;  // relative: the bound must not fail for single precision

struct Shared {
    const std::vector<DenseSource<float>>& sources;
    const Neurons& neurons;
    const Disturbance& disturbance;
    const Request& request;
    int64_t stride = 0;  // neurons, padded
    std::vector<std::vector<float>> weight;
    FlowTable table;
    std::vector<float> floor, most, peak;
    std::vector<int64_t> column;  // of the samples, per neuron; -1: not sampled
    double quickest = 0;          // earliest peak of a response
    bool jumps = false;           // a floor or a saturation exists
};

struct Sweep {
    const Shared* shared;
    int64_t sample;
    std::vector<Arrival> arrivals;
    std::vector<Spike>* spikes;
};

std::vector<std::vector<float>> padded(const std::vector<DenseSource<float>>& sources, int64_t size, int64_t stride) {
    std::vector<std::vector<float>> out;
    for (const auto& source : sources) {
        std::vector<float> rows(source.size * stride, 0.0f);
        for (int64_t u = 0; u < source.size; ++u) std::copy_n(source.weight + u * size, size, rows.data() + u * stride);
        out.push_back(std::move(rows));
    }
    return out;
}

void prepare(Shared& s) {
    const int64_t size = s.neurons.size;
    s.stride = (size + 15) / 16 * 16;
    s.weight = padded(s.sources, size, s.stride);
    s.floor.assign(s.stride, -std::numeric_limits<float>::infinity());
    s.most.assign(s.stride, std::numeric_limits<float>::infinity());
    s.peak.assign(s.stride, 0.0f);
    s.column.assign(size, -1);
    s.quickest = kInfinity;
    for (int64_t m = 0; m < size; ++m) {
        const Neuron n = s.neurons[m];
        s.floor[m] = float(s.disturbance.floor[m] - s.neurons.leak[m]), s.most[m] = float(s.disturbance.most[m]);
        s.jumps |= std::isfinite(s.floor[m]) || std::isfinite(s.most[m]);
        s.peak[m] = float(response_peak(n.a, n.b)) * (1 + kSlack);
        s.quickest = std::min(s.quickest, response_peak_time(n.a, n.b));
    }
    for (int64_t c = 0; c < s.request.sampling.units; ++c) s.column[s.request.sampling.unit[c]] = c;
    s.table.build(s.neurons, s.stride, s.disturbance.tick);
}

// The samples of an interval: those at its end are in it.
struct Range {
    int64_t first, last;
};

Range samples_until(const Sampling& sampling, const double* times, int64_t first, double end) {
    int64_t last = first;
    while (times && last < sampling.count && times[last] <= end) ++last;
    return {first, last};
}

Samples samples_of(const Sweep& sweep, int64_t m, Range range) {
    const Shared& s = *sweep.shared;
    const Sampling& x = s.request.sampling;
    if (s.column[m] < 0 || range.first == range.last) return {};
    double* value = x.value + (sweep.sample * x.count + range.first) * x.units + s.column[m];
    return {x.times(sweep.sample) + range.first, range.last - range.first, value, x.units, s.neurons.leak[m]};
}

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "disturbed.inl"
#include "each_target.hpp"

namespace spikeloop {

SpikesPerSample disturbed_forward(const std::vector<DenseSource<float>>& sources, const Neurons& neurons,
                                  const Disturbance& disturbance, const Request& request) {
    SpikesPerSample spikes(request.batch);
    if (neurons.size == 0) return spikes;
    Shared shared{sources, neurons, disturbance, request, 0, {}, {}, {}, {}, {}, {}, 0, false};
    prepare(shared);
    double work = 50.0 * double(request.batch * neurons.size);
    for (const auto& source : sources)
        work += double(source.trains.start[request.batch] - source.trains.start[0]) * double(shared.stride);
    parallel_for(request.batch, worthwhile(request.threads, work), 2, [&](int64_t sample) {
        thread_local Sweep sweep;
        sweep.shared = &shared, sweep.sample = sample, sweep.spikes = &spikes[sample];
        gather_arrivals(sources, {}, sample, request.duration, sweep.arrivals);
        int64_t first = 0;
        for (; shared.stride - first >= 64; first += 64) SPIKELOOP_BEST(sweep_wide(sweep, first));
        for (; first < shared.stride; first += 16) SPIKELOOP_BEST(sweep_narrow(sweep, first));
        std::sort(spikes[sample].begin(), spikes[sample].end(), Earlier());
    });
    return spikes;
}

}  // namespace spikeloop
