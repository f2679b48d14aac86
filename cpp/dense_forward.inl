// The sweep itself, see dense_forward.cpp.
#include "crossings.inl"

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

// A lane that was looked at is at `s`; unless that differs by more than rounding, the sweep's own values stay.
template <class T, int N>
void take_over(const Sweep<T>& sweep, Lanes<T, N>& x, int l, const Interval<T>& interval, const State& s, bool differs) {
    if (differs) x.next_v[l] = T(s.v), x.next_i[l] = T(s.i), x.free[l] = s.free;
    set_level(x, l, interval.end, sweep.wants_peak());
}

// One lane in double precision: spikes, refractory holds and peaks.
template <class T, int N>
void look_closely_at(const Sweep<T>& sweep, const Block<T>& block, Lanes<T, N>& x, const Interval<T>& interval, int l) {
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
    take_over(sweep, x, l, interval, s, first_spike >= 0 || before.free > interval.begin);
}

// Lanes whose bound reached the level: those that can only spike side by side, the others one by one.
template <class T, int N>
__attribute__((noinline)) void look_closely(const Sweep<T>& sweep, const Block<T>& block, Lanes<T, N>& x, const Interval<T>& interval) {
    Pack& pack = sweep.pack;
    int lanes[Pack::kRoom];
    for_each_set(x.close, N, [&](int l) {
        if (!x.spiking[l] || sweep.wants_peak() || x.neuron[l].rises_to_threshold()) return look_closely_at(sweep, block, x, interval, l);
        lanes[pack.count] = l;
        pack.add(x.neuron[l], sweep.peak[block.first + l], {double(x.v[l]), double(x.i[l]), x.free[l]}, interval.begin);
    });
    const int count = pack.count;
    if (count == 0) return;
    const size_t known = sweep.spikes->size();
    advance(pack, interval.end, sweep.request->spike_limit, *sweep.spikes);
    for (size_t k = known; k < sweep.spikes->size(); ++k) (*sweep.spikes)[k].unit = int32_t(block.first + lanes[(*sweep.spikes)[k].unit]);
    for (int k = 0; k < count; ++k) {
        const int l = lanes[k];
        x.fired[l] += pack.spikes[k];
        if (x.fired[l] > sweep.request->spike_limit) throw Explosion(sweep.sample, block.first + l);
        take_over(sweep, x, l, interval, pack.end[k], pack.spikes[k] > 0 || x.free[l] > interval.begin);
    }
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
    alignas(64) double a[N], b[N], peak_time[N], peak[N];
};

template <class T, int N>
void prepare(OwnFlows<T, N>& flows, const Lanes<T, N>& x) {
    for (int l = 0; l < N; ++l) {
        flows.a[l] = x.neuron[l].a, flows.b[l] = x.neuron[l].b;
        flows.peak_time[l] = response_peak_time(x.neuron[l].a, x.neuron[l].b);
        flows.peak[l] = response_peak(x.neuron[l].a, x.neuron[l].b);
    }
}

template <class T, int N>
SPIKELOOP_INLINE void set_flows(OwnFlows<T, N>& own, double dt) {
    for (int l = 0; l < N; l += kDoubles) {
        const Flows f = flows(all_of(dt), load(own.a + l), load(own.b + l));
        const Doubles top = dt < load(own.peak_time + l) ? f.g : load(own.peak + l);
        store_as(own.em + l, f.em), store_as(own.es + l, f.es), store_as(own.g + l, f.g), store_as(own.top + l, top * (1 + kMargin));
    }
}

// Pieces of an interval of neurons of one pair of time constants.
template <class T>
__attribute__((noinline)) void make_pieces(Pieces<T>& pieces, const Interval<T>& interval, double a, double b, double most) {
    static_assert(kPieces == kDoubles);
    const double whole = interval.end - interval.begin, peak_time = response_peak_time(a, b);
    const Doubles end = Doubles{1, 2, 3, 4, 5, 6, 7, 8} * (whole / kPieces), begin = end - whole / kPieces;
    const Flows f = flows(end, all_of(a), all_of(b)), before = flows(begin, all_of(a), all_of(b));
    const Doubles top = end < peak_time ? f.g : (begin > peak_time ? before.g : all_of(most));
    pieces.em[0] = 1, pieces.made = true;
    store_as(pieces.em + 1, f.em), store_as(pieces.top, top * (1 + kMargin));
}

// Which lanes may reach their level, by bounds on the pieces of the interval.
template <class T, int N>
void look_again(const Pieces<T>& pieces, Lanes<T, N>& x) {
    using V = Vector<T>;
    const V zero = V{};
    for (int l = 0; l < N; l += kLanes<T>) {
        const V v = load(x.v + l), i = load(x.i + l), rising = i > zero ? i : zero;
        V bound = v;
        for (int k = 0; k < kPieces; ++k) {
            const V most = (v > zero ? v * pieces.em[k] : v * pieces.em[k + 1]) + rising * pieces.top[k];
            bound = most > bound ? most : bound;
        }
        const V level = load(x.level + l);
        store_bytes<T>(x.close + l, bound >= level);
    }
}

template <class T, int W, bool OneTau, bool Spiking>
void sweep_block(const Sweep<T>& sweep, const Block<T>& block) {
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
        if constexpr (!OneTau) set_flows(own, interval.end - interval.begin);
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
            if (OneTau && Spiking && !sampling && interval.end - interval.begin > kLong / x.neuron[0].b) {
                Pieces<T>& pieces = sweep.pieces[n];
                if (!pieces.made) make_pieces(pieces, interval, x.neuron[0].a, x.neuron[0].b, sweep.peak[0]);
                look_again(pieces, x);
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
void sweep_any(const Sweep<T>& sweep, const Block<T>& block) {
    if constexpr (OneTau && Spiking) {
        if (block.count > 2 * kLanes<T>) return sweep_block<T, 4, OneTau, Spiking>(sweep, block);
        if (block.count > kLanes<T>) return sweep_block<T, 2, OneTau, Spiking>(sweep, block);
    }
    sweep_block<T, 1, OneTau, Spiking>(sweep, block);
}

// The flow from each arrival to the next for neurons of one pair of time constants; `top` as in set_flows.
template <class T>
void set_flows(std::vector<Interval<T>>& intervals, double a, double b) {
    const double peak_time = response_peak_time(a, b), peak = response_peak(a, b);
    for (size_t n = 0; n < intervals.size(); n += kDoubles) {
        const size_t count = std::min<size_t>(kDoubles, intervals.size() - n);
        alignas(64) double dt[kDoubles] = {};
        for (size_t k = 0; k < count; ++k) dt[k] = intervals[n + k].end - intervals[n + k].begin;
        const Flows f = flows(load(dt), all_of(a), all_of(b));
        const Doubles top = (load(dt) < peak_time ? f.g : all_of(peak)) * (1 + kMargin);
        alignas(64) T em[kDoubles], es[kDoubles], g[kDoubles], most[kDoubles];
        store_as(em, f.em), store_as(es, f.es), store_as(g, f.g), store_as(most, top);
        for (size_t k = 0; k < count; ++k)
            intervals[n + k].em = em[k], intervals[n + k].es = es[k], intervals[n + k].g = g[k], intervals[n + k].top = most[k];
    }
}

template <class T>
void sweep(const Sweep<T>& sweep, const Block<T>& block, bool one_tau) {
    if (sweep.neurons->spiking)
        one_tau ? sweep_any<T, true, true>(sweep, block) : sweep_any<T, false, true>(sweep, block);
    else
        one_tau ? sweep_any<T, true, false>(sweep, block) : sweep_any<T, false, false>(sweep, block);
}
