// The steps themselves, see stepped_forward.cpp: Runge and Kutta's fourth-order rule for vectors of neurons.

SPIKELOOP_INLINE Vector<double> raised(const Vector<double>& x) { return exponential(x); }
SPIKELOOP_INLINE Vector<float> raised(Vector<float> x) {
    using V = Vector<float>;
    typedef int32_t Lanes __attribute__((vector_size(64)));
    const V low = V{} - 87.0f, high = V{} + 88.0f;
    x = x < low ? low : x, x = x > high ? high : x;
    const V shifted = x * 1.44269504f + 0x1.8p23f, n = shifted - 0x1.8p23f;
    const V r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f, r2 = r * r;
    const V p = (1.0f + r) + r2 * ((0.5f + r * (1.0f / 6)) + r2 * ((1.0f / 24 + r * (1.0f / 120)) + r2 * (1.0f / 720)));
    Lanes bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    V power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// ---- arrivals -----------------------------------------------------------------------------------------------------

// Rows of a dense link, `count` events from `first` on, into the sums of weight x^k.
template <class T>
void accumulate(const SteppedLink<T>& link, int64_t size, const SteppedEvent* first, int64_t count, double end, double h, T* sums, int64_t padded,
                SteppedRange range) {
    constexpr int L = kLanes<T>;
    using V = Vector<T>;
    for (int64_t l = range.first; l < std::min(range.last, size); l += L) {
        const int some = int(std::min<int64_t>(L, size - l));
        V m0 = load(sums + l), m1 = load(sums + padded + l), m2 = load(sums + 2 * padded + l), m3 = load(sums + 3 * padded + l);
        for (int64_t e = 0; e < count; ++e) {
            const T* from = link.weight + int64_t(first[e].unit) * size + l;
            const V row = some == L ? load(from) : load_some(from, some);
            const double x = (end - first[e].time) / h, y = first[e].amplitude;
            m0 += row * T(y), m1 += row * T(y * x), m2 += row * T(y * x * x), m3 += row * T(y * x * x * x);
        }
        store(sums + l, m0), store(sums + padded + l, m1), store(sums + 2 * padded + l, m2), store(sums + 3 * padded + l, m3);
    }
}

template <class T>
void deliver(const SteppedStage<T>& stage, SteppedSample<T>& sample, int64_t k, const SteppedEvent* events, int64_t count, SteppedRange range) {
    const double h = stage.run.step, end = double(k + 1) * h;
    for (int64_t e = 0; e < count;) {
        const int32_t number = events[e].link;
        const SteppedLink<T>& link = stage.links[number];
        const SteppedLayer<T>& layer = stage.layers[link.target];
        SteppedWay<T>& way = sample.ways[link.target];
        const int slot = layer.slot_at[link.receptor * layer.compartments + link.compartment];
        T* sums = way.arriving.data() + 4 * slot * layer.padded;
        way.touched[slot] = 1;
        int64_t last = e + 1;
        if (!link.unit) {
            while (last < count && events[last].link == number) ++last;
            accumulate(link, layer.size, events + e, last - e, end, h, sums, layer.padded, range);
        } else {
            const SteppedEvent& event = events[e];
            const double x = (end - event.time) / h, y = event.amplitude;
            const T p0 = T(y), p1 = T(y * x), p2 = T(y * x * x), p3 = T(y * x * x * x);
            const int64_t from = event.synapse >= 0 ? event.synapse : link.begin[event.unit];
            const int64_t to = event.synapse >= 0 ? event.synapse + 1 : link.begin[event.unit + 1];
            for (int64_t s = from; s < to; ++s) {
                const T weight = link.weight[link.index ? link.index[s] : s];
                T* at = sums + link.unit[s];
                at[0] += weight * p0, at[layer.padded] += weight * p1, at[2 * layer.padded] += weight * p2, at[3 * layer.padded] += weight * p3;
            }
        }
        e = last;
    }
}

// ---- one step -----------------------------------------------------------------------------------------------------

template <class T>
inline constexpr T kRoughStep = T(0.4);  // of an e-fold of the exponential term: such lanes are looked at one by one

template <class T>
__attribute__((noinline)) void see_peaks(SteppedWay<T>& x, int64_t l, const Vector<T>& v, double end) {
    for (int k = 0; k < kLanes<T>; ++k)
        if (v[k] > x.peak[l + k] && v[k] < x.level[l + k]) x.peak[l + k] = v[k], x.peak_time[l + k] = end;
}

// The lanes from l on of a population through a step from `begin` on; those that are set in the result stay where they are.
template <class T, int Compartments, bool Exponential, bool Adaptation, bool Conductance>
SPIKELOOP_INLINE uint32_t step(const SteppedLayer<T>& p, SteppedWay<T>& x, int64_t l, double begin, double end) {
    using V = Vector<T>;
    typedef decltype(V{} < V{}) Mask;
    constexpr int kMany = Compartments ? Compartments : kMaxCompartments, L = kLanes<T>;
    const int count = Compartments ? Compartments : p.compartments;
    const int64_t n = p.padded;
    V sum0[kMany], sum1[kMany], sum2[kMany], rho0[Conductance ? kMany : 1], rho1[Conductance ? kMany : 1], rho2[Conductance ? kMany : 1];
    Mask alone = {};
    for (int c = 0; c < count; ++c) {
        V j = V{};
        if (p.currents[c] >= 0) j = load(x.j.data() + c * n + l);
        sum0[c] = sum1[c] = sum2[c] = j;
        if constexpr (Conductance) rho0[c] = rho1[c] = rho2[c] = V{};
        if (x.jumped[c]) {
            const V mean = load(x.jump.data() + 2 * c * n + l), turn = T(3) * (mean - load(x.jump.data() + (2 * c + 1) * n + l));
            sum0[c] += mean - turn, sum1[c] += mean, sum2[c] += mean + turn;
        }
    }
    V next_i[kMaxSlots];
    for (int s = 0; s < p.slots; ++s) {
        const int c = p.slot_of[s][0];
        const V half = load(p.half.data() + s * n + l);
        V i0 = load(x.i.data() + s * n + l), i1 = i0 * half, i2 = i1 * half;
        next_i[s] = i2;
        if (x.touched[s]) {
            T* sums = x.arriving.data() + 4 * s * n + l;
            const V m0 = load(sums), m1 = load(sums + n), m2 = load(sums + 2 * n), m3 = load(sums + 3 * n);
            const T *e = p.end.data() + 4 * s * n + l, *a = p.mean.data() + 3 * s * n + l, *b = p.moment.data() + 3 * s * n + l;
            next_i[s] += (load(e) * m0 + load(e + n) * m1) + (load(e + 2 * n) * m2 + load(e + 3 * n) * m3);
            const V mean = load(a) * m1 + load(a + n) * m2 + load(a + 2 * n) * m3;
            const V moment = load(b) * m1 + load(b + n) * m2 + load(b + 2 * n) * m3;
            if (p.limits) {
                const V most = load(p.most.data() + s * n + l), low = load(p.low.data() + c * n + l), v = load(x.v.data() + c * n + l);
                const V high = (i0 < 0 ? -i0 : i0) + (m0 < 0 ? -m0 : m0);
                alone |= (high >= most) | ((v <= low) & ((m0 != 0) | (m1 != 0)));
            }
            store(sums, V{}), store(sums + n, V{}), store(sums + 2 * n, V{}), store(sums + 3 * n, V{});
            i0 += T(6) * moment - T(2) * mean, i1 += mean, i2 += T(4) * mean - T(6) * moment;
        }
        sum0[c] += i0, sum1[c] += i1, sum2[c] += i2;
        if constexpr (Conductance) {
            const V rho = load(p.rho.data() + s * n + l);
            rho0[c] += rho * i0, rho1[c] += rho * i1, rho2[c] += rho * i2;
        }
    }
    V v0[kMany], w0[Adaptation ? kMany : 1], v[kMany], w[Adaptation ? kMany : 1], dv[kMany], dw[Adaptation ? kMany : 1], first[kMany];
    V total_v[kMany], total_w[Adaptation ? kMany : 1], free[kMany], rough = V{};
    const bool holds = x.latest[l / L] > begin;
    for (int c = 0; c < count; ++c) {
        v[c] = v0[c] = load(x.v.data() + c * n + l);
        if constexpr (Adaptation) w[c] = w0[c] = load(x.w.data() + c * n + l);
        if (holds) {
            const double* until = x.free.data() + c * n + l;
            for (int k = 0; k < L; ++k) {
                free[c][k] = until[k] >= end ? T(0) : T(1);
                if (until[k] > begin && until[k] < end) alone[k] = -1;
            }
        }
    }
    const auto slopes = [&](const V* sum, const V* rho) {
        SPIKELOOP_UNROLL
        for (int c = 0; c < count; ++c) {
            const int64_t at = c * n + l;
            V f = sum[c];
            if constexpr (Conductance) f -= (p.leaky[c] + rho[c]) * v[c];
            else f -= p.leaky[c] * v[c];
            if constexpr (Adaptation) f -= w[c], dw[c] = load(p.adapting.data() + at) * (load(p.a.data() + at) * v[c] - w[c]);
            f *= load(p.alpha.data() + at);
            if constexpr (Exponential) {
                const V e = load(p.rising.data() + at) * raised(v[c] * load(p.inverse.data() + at) - load(p.exponent.data() + at));
                f += e * load(p.scale.data() + at), rough = larger(rough, holds ? e * free[c] : e);
            }
            dv[c] = f;
        }
        if constexpr (Compartments != 1)
            for (int e = 0; e < p.edges; ++e) {
                const int c = p.edge[e].c, d = p.edge[e].d;
                const V difference = v[d] - v[c] + load(p.offset.data() + e * n + l);
                dv[c] += load(p.into_c.data() + e * n + l) * difference, dv[d] -= load(p.into_d.data() + e * n + l) * difference;
            }
        if (holds)
            for (int c = 0; c < count; ++c) dv[c] *= free[c];
    };
    const auto move = [&](T share) {
        for (int c = 0; c < count; ++c) {
            v[c] = v0[c] + share * dv[c];
            if constexpr (Adaptation) w[c] = w0[c] + share * dw[c];
        }
    };
    const auto add = [&](T share) {
        for (int c = 0; c < count; ++c) {
            total_v[c] += share * dv[c];
            if constexpr (Adaptation) total_w[c] += share * dw[c];
        }
    };
    slopes(sum0, rho0);
    for (int c = 0; c < count; ++c) {
        first[c] = dv[c], total_v[c] = dv[c];
        if constexpr (Adaptation) total_w[c] = dw[c];
    }
    move(T(0.5)), slopes(sum1, rho1), add(T(2));
    move(T(0.5)), slopes(sum1, rho1), add(T(2));
    move(T(1)), slopes(sum2, rho2), add(T(1));
    for (int c = 0; c < count; ++c) {
        const V level = load(x.level.data() + c * n + l), after = v0[c] + T(1.0 / 6) * total_v[c];
        const Mask below = v0[c] < level;
        const V top = v0[c] + T(0.5) * larger(first[c], V{});
        Mask meets = below & ((after >= level) | ((dv[c] < 0) & (top >= level)));
        if (holds) meets &= free[c] > 0;
        alone |= meets, v[c] = after;
        if constexpr (Adaptation) w[c] = w0[c] + T(1.0 / 6) * total_w[c];
    }
    if (!x.peak.empty()) {
        const int c = p.cells.output;
        alone |= (first[c] > 0) & (dv[c] < 0) & (v0[c] + T(0.5) * first[c] > load(x.peak.data() + l));
        see_peaks(x, l, v[c], end);
    }
    if constexpr (Exponential) alone |= ~(rough < kRoughStep<T>);
    if (!any(alone)) [[likely]] {
        for (int c = 0; c < count; ++c) {
            store(x.v.data() + c * n + l, v[c]);
            if constexpr (Adaptation) store(x.w.data() + c * n + l, w[c]);
        }
        for (int s = 0; s < p.slots; ++s) store(x.i.data() + s * n + l, next_i[s]);
        return 0;
    }
    for (int c = 0; c < count; ++c) {
        store(x.v.data() + c * n + l, V(alone ? v0[c] : v[c]));
        if constexpr (Adaptation) store(x.w.data() + c * n + l, V(alone ? w0[c] : w[c]));
    }
    for (int s = 0; s < p.slots; ++s) store(x.i.data() + s * n + l, V(alone ? load(x.i.data() + s * n + l) : next_i[s]));
    uint32_t bits = 0;
    for (int k = 0; k < L; ++k) bits |= uint32_t(alone[k] != 0) << k;
    return bits;
}

// A population's neurons through step k.
template <class T, int Compartments, bool Exponential, bool Adaptation, bool Conductance>
void step_all(SteppedSample<T>& sample, int p, int64_t k, const SteppedEvent* events, int64_t count, SteppedRange range) {
    const SteppedLayer<T>& layer = sample.stage.layers[p];
    SteppedWay<T>& way = sample.ways[p];
    const double h = sample.stage.run.step, begin = double(k) * h, end = double(k + 1) * h;
    for (int64_t l = range.first; l < std::min(range.last, layer.size); l += kLanes<T>) {
        uint32_t alone = step<T, Compartments, Exponential, Adaptation, Conductance>(layer, way, l, begin, end);
        for (; alone; alone &= alone - 1)
            if (const int64_t m = l + __builtin_ctz(alone); m < layer.size) sample.go_alone(p, m, k, events, count);
    }
    std::fill(way.touched.begin(), way.touched.end(), uint8_t(0));
}

template <class T>
using SteppedKernel = void (*)(SteppedSample<T>&, int, int64_t, const SteppedEvent*, int64_t, SteppedRange);

template <class T, int Compartments>
SteppedKernel<T> kernel_with(const SteppedLayer<T>& x) {
    const int which = x.exponential + 2 * x.adaptation + 4 * x.conductance;
    constexpr SteppedKernel<T> kernels[] = {step_all<T, Compartments, false, false, false>, step_all<T, Compartments, true, false, false>,
                                            step_all<T, Compartments, false, true, false>,  step_all<T, Compartments, true, true, false>,
                                            step_all<T, Compartments, false, false, true>,  step_all<T, Compartments, true, false, true>,
                                            step_all<T, Compartments, false, true, true>,   step_all<T, Compartments, true, true, true>};
    return kernels[which];
}

template <class T>
SteppedKernel<T> kernel_of(const SteppedLayer<T>& x) {
    if (x.compartments == 1) return kernel_with<T, 1>(x);
    if (x.exponential || x.adaptation) return step_all<T, 0, true, true, true>;
    return x.conductance ? step_all<T, 0, false, false, true> : step_all<T, 0, false, false, false>;
}

// Some neurons of a sample through all steps.
template <class T>
void march(SteppedSample<T>& sample, SteppedRange range, Watch& watch) {
    const SteppedStage<T>& stage = sample.stage;
    const SteppedRun& run = stage.run;
    std::vector<SteppedKernel<T>> kernels;
    for (const auto& layer : stage.layers) kernels.push_back(kernel_of(layer));
    for (int64_t k = run.first; k < run.first + run.steps; ++k) {
        watch.glance();
        int64_t count = 0;
        const SteppedEvent* events = sample.arrivals(k, count);
        if (count) deliver(stage, sample, k, events, count, range);
        for (size_t p = 0; p < kernels.size(); ++p) {
            sample.deliver_jumps(int(p), k, range);
            sample.take_samples(int(p), k, false, events, count, range);
            kernels[p](sample, int(p), k, events, count, range);
            sample.end_jumps(int(p));
        }
    }
    for (size_t p = 0; p < kernels.size(); ++p) sample.take_samples(int(p), run.first + run.steps, true, nullptr, 0, range);
}
