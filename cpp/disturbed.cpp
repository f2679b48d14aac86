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

// Something all lanes stop at: an arrival (row), or a time at which membranes are sampled.
struct Stop {
    double time;
    const float* row;  // null: a sample
    int64_t sample;
};

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
    std::vector<Stop> stops;
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

void make_stops(Sweep& sweep) {
    const Shared& s = *sweep.shared;
    gather_arrivals(s.sources, sweep.sample, s.request.duration, sweep.arrivals);
    sweep.stops.clear();
    const Sampling& sampling = s.request.sampling;
    const double* times = sampling.units ? sampling.times(sweep.sample) : nullptr;
    int64_t next = 0;
    const auto samples_before = [&](double time) {  // a sample at an arrival comes first
        for (; times && next < sampling.count && times[next] <= time; ++next) sweep.stops.push_back({times[next], nullptr, next});
    };
    for (const Arrival& a : sweep.arrivals) {
        samples_before(a.time);
        sweep.stops.push_back({a.time, s.weight[a.source].data() + a.unit * s.stride, -1});
    }
    samples_before(kInfinity);
}

template <int N>
struct Lanes {
    alignas(64) float v[N], i[N], next_v[N], next_i[N], level[N], bound[N];
    Lane lane[N];
};

template <int N>
void start(const Sweep& sweep, int64_t first, Lanes<N>& x) {
    const Shared& s = *sweep.shared;
    for (int l = 0; l < N; ++l) {
        x.v[l] = x.i[l] = 0, x.level[l] = std::numeric_limits<float>::infinity();
        if (first + l >= s.neurons.size) continue;
        x.lane[l].start(s.neurons, s.disturbance, s.request, sweep.sample, first + l);
        x.v[l] = float(x.lane[l].neuron.initial());
        x.level[l] = x.lane[l].level(0.0);
    }
}

template <int N>
void look_closely(const Sweep& sweep, Lanes<N>& x, double begin, double end) {
    for (int l = 0; l < N; ++l) {
        if (!(x.bound[l] >= x.level[l])) continue;
        Lane& lane = x.lane[l];
        State s{double(x.v[l]), double(x.i[l]), lane.free};
        if (lane.follow(s, begin, end, *sweep.spikes)) x.next_v[l] = float(s.v), x.next_i[l] = float(s.i);
        x.level[l] = lane.level(end);
    }
}

template <int N>
void take_samples(const Sweep& sweep, int64_t first, Lanes<N>& x, const Stop& stop) {
    const Shared& s = *sweep.shared;
    const Sampling& sampling = s.request.sampling;
    for (int64_t m = first; m < std::min(first + N, s.neurons.size); ++m) {
        if (s.column[m] < 0) continue;
        double* row = sampling.value + (sweep.sample * sampling.count + stop.sample) * sampling.units;
        row[s.column[m]] = double(x.v[m - first]) + x.lane[m - first].seen(stop.time) + s.neurons.leak[m];
    }
}

template <int N>
SPIKELOOP_ALWAYS_INLINE void arrive(const Shared& s, int64_t first, Lanes<N>& x, const float* row) {
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
SPIKELOOP_ALWAYS_INLINE bool flow_on(const Flows<N>& f, const float* top, Lanes<N>& x) {
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
SPIKELOOP_ALWAYS_INLINE void sweep_block(const Sweep& sweep, int64_t first) {
    const Shared& s = *sweep.shared;
    Lanes<N> x;
    start(sweep, first, x);
    Flows<N> flows;
    double now = 0;
    const size_t count = sweep.stops.size();
    for (size_t n = 0; n <= count; ++n) {
        const double end = n < count ? sweep.stops[n].time : s.request.duration, dt = end - now;
        if (dt > 0) {
            s.table.set(flows, first, dt);
            const float* top = dt < s.quickest ? flows.g : s.peak.data() + first;
            if (flow_on(flows, top, x)) look_closely(sweep, x, now, end);
            for (int l = 0; l < N; ++l) x.v[l] = x.next_v[l], x.i[l] = x.next_i[l];
            now = end;
        }
        if (n == count) return;
        if (sweep.stops[n].row)
            arrive(s, first, x, sweep.stops[n].row);
        else
            take_samples(sweep, first, x, sweep.stops[n]);
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
        make_stops(sweep);
        int64_t first = 0;
        for (; shared.stride - first >= 64; first += 64) sweep_wide(sweep, first);
        for (; first < shared.stride; first += 16) sweep_narrow(sweep, first);
        std::sort(spikes[sample].begin(), spikes[sample].end(), earlier);
    });
    return spikes;
}

}  // namespace spikeloop
