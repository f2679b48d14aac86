// The sweep of dense_forward.cpp for neurons that all differ: flows come from tables over multiples of the tick, which are
// composed, so that no exponential is computed per interval.
#include "disturbed.hpp"
#include "disturbed_lane.hpp"
#include "flow_table.hpp"
#include "clones.hpp"
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

template <int N>
struct Lanes {
    alignas(64) float v[N], i[N], next_v[N], next_i[N], level[N], bound[N];
    Lane lane[N];
};

template <int N>
void start(const Sweep& sweep, int64_t first, Lanes<N>& x) {
    const Shared& s = *sweep.shared;
    const uint64_t key = keyed(s.disturbance.key, uint64_t(sweep.sample));
    for (int l = 0; l < N; ++l) {
        x.v[l] = x.i[l] = 0, x.level[l] = std::numeric_limits<float>::infinity();
        if (first + l >= s.neurons.size) continue;
        x.lane[l].start(s.neurons, s.disturbance, s.request, sweep.sample, key, first + l);
        x.v[l] = float(x.lane[l].neuron.initial());
        x.level[l] = x.lane[l].level(0.0);
    }
}

Samples samples_of(const Sweep& sweep, int64_t m, Range range) {
    const Shared& s = *sweep.shared;
    const Sampling& x = s.request.sampling;
    if (s.column[m] < 0 || range.first == range.last) return {};
    double* value = x.value + (sweep.sample * x.count + range.first) * x.units + s.column[m];
    return {x.times(sweep.sample) + range.first, range.last - range.first, value, x.units, s.neurons.leak[m]};
}

template <int N>
void look_closely(const Sweep& sweep, int64_t first, Lanes<N>& x, const Flows<N>& flows, double begin, double end, Range range) {
    for (int l = 0; l < N; ++l) {
        if (!(x.bound[l] >= x.level[l])) continue;
        Lane& lane = x.lane[l];
        State s{double(x.v[l]), double(x.i[l]), lane.free};
        Samples samples = samples_of(sweep, first + l, range);
        if (lane.follow(s, begin, end, {flows.em[l], flows.es[l], flows.g[l]}, *sweep.spikes, samples)) x.next_v[l] = float(s.v), x.next_i[l] = float(s.i);
        x.level[l] = lane.level(end);
    }
}

// Samples of the lanes that are far from their thresholds; `close` ones are looked at closely.
template <int N>
void take_samples(const Sweep& sweep, int64_t first, Lanes<N>& x, double begin, Range range) {
    const Shared& s = *sweep.shared;
    const double* times = s.request.sampling.times(sweep.sample);
    Flows<N> flows;
    for (int64_t k = range.first; k < range.last; ++k) {
        s.table.set(flows, first, times[k] - begin);
        for (int64_t m = first; m < std::min(first + N, s.neurons.size); ++m) {
            const int64_t l = m - first;
            if (s.column[m] < 0 || x.bound[l] >= x.level[l]) continue;
            *samples_of(sweep, m, {k, k + 1}).value =
                double(x.v[l] * flows.em[l] + x.i[l] * flows.g[l]) + x.lane[l].seen(times[k]) + s.neurons.leak[m];
        }
    }
}

template <int N>
SPIKELOOP_INLINE void arrive(const Shared& s, int64_t first, Lanes<N>& x, const float* row) {
    const float *add = row + first, *floor = s.floor.data() + first, *most = s.most.data() + first;
    if (!s.jumps) {
        for (int l = 0; l < N; ++l) x.i[l] += add[l];
        return;
    }
    for (int l = 0; l < N; ++l) {
        const float i = x.i[l] + add[l], high = i < most[l] ? i : most[l];
        x.i[l] = high > -most[l] ? high : -most[l];
        x.v[l] = x.v[l] > floor[l] ? x.v[l] : floor[l];
    }
}

// v and i after the interval, and the bound of v within it; whether any lane's bound reaches its level.
template <int N>
SPIKELOOP_INLINE bool flow_on(const Flows<N>& f, const float* top, Lanes<N>& x) {
    int some = 0;
    for (int l = 0; l < N; ++l) {
        const float decayed = x.v[l] * f.em[l], high = x.v[l] > decayed ? x.v[l] : decayed;
        const float bound = high + (x.i[l] > 0 ? x.i[l] : 0.0f) * top[l];
        x.bound[l] = bound;
        some |= bound >= x.level[l];
        x.next_v[l] = decayed + x.i[l] * f.g[l];
        x.next_i[l] = x.i[l] * f.es[l];
    }
    return some != 0;
}

template <int N>
SPIKELOOP_INLINE void sweep_block(const Sweep& sweep, int64_t first) {
    const Shared& s = *sweep.shared;
    Lanes<N> x;
    start(sweep, first, x);
    Flows<N> flows;
    double now = 0;
    const Sampling& sampling = s.request.sampling;
    const double* times = sampling.units ? sampling.times(sweep.sample) : nullptr;
    Range range{0, 0};
    const size_t count = sweep.arrivals.size();
    for (size_t n = 0; n <= count; ++n) {
        const double end = n < count ? sweep.arrivals[n].time : s.request.duration, dt = end - now;
        if (dt > 0 || n == count) {
            s.table.set(flows, first, dt);
            const float* top = dt < s.quickest ? flows.g : s.peak.data() + first;
            const bool some = flow_on(flows, top, x);
            range = samples_until(sampling, times, range.last, end);
            if (range.first != range.last) take_samples(sweep, first, x, now, range);
            if (some) look_closely(sweep, first, x, flows, now, end, range);
            for (int l = 0; l < N; ++l) x.v[l] = x.next_v[l], x.i[l] = x.next_i[l];
            now = end;
        }
        if (n < count) arrive(s, first, x, s.weight[sweep.arrivals[n].source].data() + sweep.arrivals[n].unit * s.stride);
    }
}

SPIKELOOP_CLONED void sweep_wide(const Sweep& sweep, int64_t first) { sweep_block<64>(sweep, first); }
SPIKELOOP_CLONED void sweep_narrow(const Sweep& sweep, int64_t first) { sweep_block<16>(sweep, first); }

}  // namespace

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
        for (; shared.stride - first >= 64; first += 64) sweep_wide(sweep, first);
        for (; first < shared.stride; first += 16) sweep_narrow(sweep, first);
        std::sort(spikes[sample].begin(), spikes[sample].end(), Earlier());
    });
    return spikes;
}

}  // namespace spikeloop
