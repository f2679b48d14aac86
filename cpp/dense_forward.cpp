// Forward sweep of a feed-forward population: the states of a block of neurons stay in registers while a sample's sorted
// arrivals pass. Per arrival: one weight row, the flow to the next arrival, and a bound on V in between; only neurons whose
// bound reaches the threshold are looked at one by one, in double precision.
#include "dense.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr double kMargin = 1e-6;  // relative slack of the bound: it must not fail for rounding

// From one arrival to the next. `top` bounds the response to a unit current within the interval.
template <class T>
struct Interval {
    double begin, end;
    T em, es, g, top;
};

template <class T>
void set_flow(Interval<T>& x, double a, double b, double peak_time, double peak) {
    const double dt = x.end - x.begin;
    const Flow f = flow(dt, a, b);
    x.em = T(f.em), x.es = T(f.es), x.g = T(f.g);
    x.top = T((dt < peak_time ? f.g : peak) * (1 + kMargin));
}

// One sample, shared by all blocks of neurons.
template <class T>
struct Sweep {
    const std::vector<DenseSource<T>>* sources;
    const Neurons* neurons;
    const Neuron* neuron;  // the same, one by one
    const Request* request;
    int64_t sample;
    std::vector<Arrival> arrivals;
    std::vector<Interval<T>> intervals;  // one more than arrivals
    std::vector<Spike>* spikes;
    int64_t slot(int64_t m) const { return sample * neurons->size + m; }
    bool may_spike(int64_t m) const { return neurons->spiking && !(request->silent && request->silent[slot(m)]); }
    bool wants_peak() const { return request->peaks.value != nullptr; }
};

// Neurons first .. first + count and where their weight columns lie.
template <class T>
struct Block {
    int64_t first, count;
    std::vector<const T*> column;  // per source
    int64_t stride;
    const T* row(const Arrival& arrival) const { return column[arrival.source] + arrival.unit * stride; }
};

template <class T, int N>
struct Lanes {
    alignas(64) T v[N], i[N], next_v[N], next_i[N], level[N];
    alignas(64) int8_t close[N];  // the bound reached the level
    Neuron neuron[N];
    Maximum peak[N];
    double free[N];
    int64_t fired[N];
    bool spiking[N];
    std::vector<std::pair<int, int64_t>> sampled;  // (lane, column of the samples)
    int64_t next_sample = 0;
};

// The value of the bound at which a lane has to be looked at.
template <class T, int N>
void set_level(Lanes<T, N>& x, int l, double now, bool wants_peak) {
    double level = kInfinity;
    if (x.spiking[l]) level = x.neuron[l].threshold - kMargin * std::max(std::abs(x.neuron[l].threshold), std::abs(x.neuron[l].reset));
    if (wants_peak) level = std::min(level, x.peak[l].value - kMargin * std::abs(x.peak[l].value));
    if (x.free[l] > now) level = -kInfinity;
    x.level[l] = T(level);
}

template <class T, int N>
void start_lanes(const Sweep<T>& sweep, const Block<T>& block, Lanes<T, N>& x) {
    for (int l = 0; l < N; ++l) {
        x.v[l] = x.i[l] = 0, x.level[l] = std::numeric_limits<T>::infinity(), x.fired[l] = 0;
        x.neuron[l] = sweep.neuron[block.first + std::min<int64_t>(l, block.count - 1)];
        x.free[l] = 0;
        if (l >= block.count) continue;
        const int64_t m = block.first + l;
        const State s = initial_state(x.neuron[l], *sweep.request, sweep.neurons->leak[m], sweep.slot(m));
        x.v[l] = T(s.v), x.i[l] = T(s.i), x.free[l] = s.free;
        x.peak[l] = {0.0, s.v};
        x.spiking[l] = sweep.may_spike(m);
        set_level(x, l, 0.0, sweep.wants_peak());
    }
    const Sampling& sampling = sweep.request->sampling;
    for (int64_t c = 0; c < sampling.units; ++c) {
        const int64_t l = sampling.unit[c] - block.first;
        if (l >= 0 && l < block.count) x.sampled.emplace_back(int(l), c);
    }
}

// Lanes whose bound reached the level: spikes, refractory holds and peaks, in double precision.
template <class T, int N>
__attribute__((noinline)) void look_closely(const Sweep<T>& sweep, const Block<T>& block, Lanes<T, N>& x, const Interval<T>& interval) {
    for_each_set(x.close, N, [&](int l) {
        const State before{double(x.v[l]), double(x.i[l]), x.free[l]};
        State s = before;
        double first_spike = -1;
        advance(x.neuron[l], s, interval.begin, interval.end, x.spiking[l], [&](double time) {
            if (first_spike < 0) first_spike = time;
            if (++x.fired[l] > sweep.request->spike_limit) throw Explosion(sweep.sample, block.first + l);
            sweep.spikes->push_back({time, int32_t(block.first + l)});
            return true;
        });
        if (sweep.wants_peak()) {
            if (first_spike < 0)
                raise_peak(x.neuron[l], before, interval.begin, interval.end, x.peak[l]);
            else if (x.neuron[l].threshold > x.peak[l].value)
                x.peak[l] = {first_spike, x.neuron[l].threshold};
        }
        if (first_spike >= 0 || before.free > interval.begin)  // else the sweep's own values stay, however close we looked
            x.next_v[l] = T(s.v), x.next_i[l] = T(s.i), x.free[l] = s.free;
        set_level(x, l, interval.end, sweep.wants_peak());
    });
}

// Peaks of neurons that never spike: only a maximum inside the interval has to be solved for.
template <class T, int N>
__attribute__((noinline)) void raise_peaks(Lanes<T, N>& x, const Interval<T>& interval) {
    for_each_set(x.close, N, [&](int l) {
        const bool turns = x.i[l] > x.v[l] && !(x.next_i[l] > x.next_v[l]);
        if (turns)
            raise_peak(x.neuron[l], {double(x.v[l]), double(x.i[l])}, interval.begin, interval.end, x.peak[l]);
        else if (double(x.next_v[l]) > x.peak[l].value)
            x.peak[l] = {interval.end, double(x.next_v[l])};
        set_level(x, l, interval.end, true);
    });
}

template <class T, int N>
__attribute__((noinline)) void take_samples(const Sweep<T>& sweep, const Block<T>& block, Lanes<T, N>& x, const Interval<T>& interval, bool last) {
    const Sampling& sampling = sweep.request->sampling;
    const double* times = sampling.times(sweep.sample);
    for (; x.next_sample < sampling.count; ++x.next_sample) {
        const double time = times[x.next_sample];
        if (!(time < interval.end || last)) return;
        for (const auto& [l, column] : x.sampled) {
            const State s{double(x.v[l]), double(x.i[l]), x.free[l]};
            const bool may_spike = x.close[l] && x.spiking[l];
            const double v = membrane_at(x.neuron[l], s, interval.begin, time, may_spike ? sweep.request->spike_limit : 0);
            sampling.value[(sweep.sample * sampling.count + x.next_sample) * sampling.units + column] =
                v + sweep.neurons->leak[block.first + l];
        }
    }
}

template <class T, int N>
void finish_lanes(const Sweep<T>& sweep, const Block<T>& block, const Lanes<T, N>& x) {
    for (int l = 0; l < block.count; ++l) {
        const int64_t m = block.first + l, slot = sweep.slot(m);
        const double leak = sweep.neurons->leak[m];
        store_state(sweep.request->end, slot, {double(x.v[l]), double(x.i[l]), x.free[l]}, leak, sweep.request->duration);
        if (!sweep.wants_peak()) continue;
        sweep.request->peaks.time[slot] = x.peak[l].time;
        sweep.request->peaks.value[slot] = x.peak[l].value + leak;
    }
}

// Flow of neurons with time constants of their own, lane by lane.
template <class T, int N>
struct OwnFlows {
    alignas(64) T em[N], es[N], g[N], top[N];
    double peak_time[N], peak[N];
};

template <class T, int N>
void prepare(OwnFlows<T, N>& flows, const Lanes<T, N>& x) {
    for (int l = 0; l < N; ++l) {
        flows.peak_time[l] = response_peak_time(x.neuron[l].a, x.neuron[l].b);
        flows.peak[l] = response_peak(x.neuron[l].a, x.neuron[l].b);
    }
}

template <class T, int N>
void set_flows(OwnFlows<T, N>& flows, const Lanes<T, N>& x, Interval<T> interval) {
    for (int l = 0; l < N; ++l) {
        set_flow(interval, x.neuron[l].a, x.neuron[l].b, flows.peak_time[l], flows.peak[l]);
        flows.em[l] = interval.em, flows.es[l] = interval.es, flows.g[l] = interval.g, flows.top[l] = interval.top;
    }
}

template <class T, int W, bool OneTau, bool Spiking>
SPIKELOOP_INLINE void sweep_block(const Sweep<T>& sweep, const Block<T>& block) {
    constexpr int L = kLanes<T>, N = W * L;
    using V = Vector<T>;
    Lanes<T, N> x;
    start_lanes(sweep, block, x);
    OwnFlows<T, N> own;
    if constexpr (!OneTau) prepare(own, x);
    V v[W], i[W], level[W];
    const auto reload = [&] {
        for (int k = 0; k < W; ++k) v[k] = load(x.v + k * L), i[k] = load(x.i + k * L), level[k] = load(x.level + k * L);
    };
    reload();
    const bool sampling = !x.sampled.empty(), peaks = sweep.wants_peak();
    const size_t count = sweep.intervals.size();
    for (size_t n = 0; n < count; ++n) {
        if (n > 0) {
            const T* row = block.row(sweep.arrivals[n - 1]);
            for (int k = 0; k < W; ++k) i[k] += load(row + k * L);
        }
        const Interval<T>& interval = sweep.intervals[n];
        if constexpr (!OneTau) set_flows(own, x, interval);
        const V zero = V{};
        V next_v[W], next_i[W];
        decltype(zero > zero) close[W], some = zero > zero;
        for (int k = 0; k < W; ++k) {
            V em, es, g, top;
            if constexpr (OneTau)
                em = zero + interval.em, es = zero + interval.es, g = zero + interval.g, top = zero + interval.top;
            else
                em = load(own.em + k * L), es = load(own.es + k * L), g = load(own.g + k * L), top = load(own.top + k * L);
            const V decayed = v[k] * em;
            const V bound = (v[k] > decayed ? v[k] : decayed) + (i[k] > zero ? i[k] : zero) * top;
            close[k] = bound >= level[k];
            some |= close[k];
            next_v[k] = decayed + i[k] * g;
            next_i[k] = i[k] * es;
        }
        if (__builtin_expect(sampling || any(some), 0)) {
            for (int k = 0; k < W; ++k) {
                store(x.v + k * L, v[k]), store(x.i + k * L, i[k]), store_bytes<T>(x.close + k * L, close[k]);
                store(x.next_v + k * L, next_v[k]), store(x.next_i + k * L, next_i[k]);
            }
            if (sampling) take_samples(sweep, block, x, interval, n + 1 == count);
            if (Spiking)
                look_closely(sweep, block, x, interval);
            else if (peaks)
                raise_peaks(x, interval);
            for (int k = 0; k < W; ++k)
                next_v[k] = load(x.next_v + k * L), next_i[k] = load(x.next_i + k * L), level[k] = load(x.level + k * L);
        }
        for (int k = 0; k < W; ++k) v[k] = next_v[k], i[k] = next_i[k];
    }
    for (int k = 0; k < W; ++k) store(x.v + k * L, v[k]), store(x.i + k * L, i[k]);
    finish_lanes(sweep, block, x);
}

template <class T, bool OneTau, bool Spiking>
SPIKELOOP_INLINE void sweep_any(const Sweep<T>& sweep, const Block<T>& block) {
    if constexpr (OneTau && Spiking) {
        if (block.count > 2 * kLanes<T>) return sweep_block<T, 4, OneTau, Spiking>(sweep, block);
        if (block.count > kLanes<T>) return sweep_block<T, 2, OneTau, Spiking>(sweep, block);
    }
    sweep_block<T, 1, OneTau, Spiking>(sweep, block);
}

#define SPIKELOOP_SWEEP(T, NAME)                                                                          \
    SPIKELOOP_MULTIARCH void NAME##_spiking(const Sweep<T>& s, const Block<T>& b) { sweep_any<T, true, true>(s, b); }  \
    SPIKELOOP_MULTIARCH void NAME##_silent(const Sweep<T>& s, const Block<T>& b) { sweep_any<T, true, false>(s, b); }  \
    SPIKELOOP_MULTIARCH void NAME##_spiking_own(const Sweep<T>& s, const Block<T>& b) { sweep_any<T, false, true>(s, b); } \
    SPIKELOOP_MULTIARCH void NAME##_silent_own(const Sweep<T>& s, const Block<T>& b) { sweep_any<T, false, false>(s, b); } \
    void choose_sweep(bool one_tau, bool spiking, const Sweep<T>& s, const Block<T>& b) {                 \
        one_tau ? (spiking ? NAME##_spiking(s, b) : NAME##_silent(s, b))                                   \
                : (spiking ? NAME##_spiking_own(s, b) : NAME##_silent_own(s, b));                          \
    }
SPIKELOOP_SWEEP(float, sweep_float)
SPIKELOOP_SWEEP(double, sweep_double)

// Blocks of neurons; the columns of the last, narrower ones are copied so that whole vectors can be read.
template <class T>
std::vector<Block<T>> make_blocks(const std::vector<DenseSource<T>>& sources, int64_t size, int64_t width, std::vector<std::vector<T>>& copies) {
    std::vector<Block<T>> blocks;
    for (int64_t first = 0; first < size;) {
        const int64_t left = size - first, take = std::min(left, width);
        Block<T> block{first, take, {}, size};
        const int64_t padded = (take + kLanes<T> - 1) / kLanes<T> == 3 ? width : (take + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
        const bool whole = take == padded;
        if (!whole) block.stride = padded;
        for (const auto& source : sources) {
            if (whole) {
                block.column.push_back(source.weight + first);
                continue;
            }
            std::vector<T> copy(source.size * padded, T(0));
            for (int64_t u = 0; u < source.size; ++u)
                std::copy_n(source.weight + u * size + first, take, copy.data() + u * padded);
            block.column.push_back(copy.data());
            copies.push_back(std::move(copy));
        }
        blocks.push_back(std::move(block));
        first += take;
    }
    return blocks;
}

}  // namespace

template <class T>
SpikesPerSample dense_forward(const std::vector<DenseSource<T>>& sources, const Neurons& neurons, const Request& request) {
    SpikesPerSample spikes(request.batch);
    if (neurons.size == 0) return spikes;
    std::vector<Neuron> neuron(neurons.size);
    for (int64_t m = 0; m < neurons.size; ++m) neuron[m] = neurons[m];
    const bool one_tau = neurons.one_tau();
    const double peak_time = response_peak_time(neuron[0].a, neuron[0].b), peak = response_peak(neuron[0].a, neuron[0].b);
    std::vector<std::vector<T>> copies;
    const int64_t width = kLanes<T> * (one_tau && neurons.spiking ? 4 : 1);
    const std::vector<Block<T>> blocks = make_blocks(sources, neurons.size, width, copies);
    double work = 50.0 * double(request.batch * neurons.size);  // a rough guess: crossings, then arrivals at vectors
    for (const auto& source : sources)
        work += double(source.trains.start[request.batch] - source.trains.start[0]) * double(neurons.size / kLanes<T> + 1) * 10;
    parallel_for(request.batch, worthwhile(request.threads, work), 2, [&](int64_t sample) {
        thread_local Sweep<T> sweep;
        sweep.sources = &sources, sweep.neurons = &neurons, sweep.neuron = neuron.data(), sweep.request = &request;
        sweep.sample = sample, sweep.spikes = &spikes[sample];
        gather_arrivals(sources, sample, request.duration, sweep.arrivals);
        sweep.intervals.resize(sweep.arrivals.size() + 1);
        double now = 0;
        for (size_t n = 0; n < sweep.intervals.size(); ++n) {
            const double next = n < sweep.arrivals.size() ? sweep.arrivals[n].time : request.duration;
            sweep.intervals[n].begin = now, sweep.intervals[n].end = next;
            if (one_tau) set_flow(sweep.intervals[n], neuron[0].a, neuron[0].b, peak_time, peak);
            now = next;
        }
        for (const auto& block : blocks) choose_sweep(one_tau, neurons.spiking, sweep, block);
        std::sort(spikes[sample].begin(), spikes[sample].end(), earlier);
    });
    return spikes;
}

template SpikesPerSample dense_forward(const std::vector<DenseSource<float>>&, const Neurons&, const Request&);
template SpikesPerSample dense_forward(const std::vector<DenseSource<double>>&, const Neurons&, const Request&);

}  // namespace spikeloop
