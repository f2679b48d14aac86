// The sweep itself, see disturbed.cpp; its loops over lanes are for the compiler to turn into vector instructions.

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

template <int N>
void look_closely(const Sweep& sweep, int64_t first, Lanes<N>& x, const LaneFlows<N>& flows, double begin, double end, Range range) {
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
    LaneFlows<N> flows;
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
SPIKELOOP_INLINE bool flow_on(const LaneFlows<N>& f, const float* top, Lanes<N>& x) {
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
    LaneFlows<N> flows;
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

// Neurons first .. first + 64, or + 16.
inline void sweep_wide(const Sweep& sweep, int64_t first) { sweep_block<64>(sweep, first); }
inline void sweep_narrow(const Sweep& sweep, int64_t first) { sweep_block<16>(sweep, first); }
