// The steps themselves, see stepped_forward.cpp: Runge and Kutta's fourth-order rule for vectors of neurons.

SPIKELOOP_INLINE Vector<double> raised(const Vector<double>& x) { return exponential(x); }
SPIKELOOP_INLINE Vector<float> raised(Vector<float> x) {
    using V = Vector<float>;
    typedef int32_t Lanes __attribute__((vector_size(64)));
    const V low = V{} - 87.0f, high = V{} + 88.0f;
    x = x > low ? x : low, x = x < high ? x : high;
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
__attribute__((noinline)) void see_peaks(SteppedWay<T>& x, int64_t l, const Vector<T>& v, double end) {
    for (int k = 0; k < kLanes<T>; ++k)
        if (v[k] > x.peak[l + k] && v[k] < x.level[l + k]) x.peak[l + k] = v[k], x.peak_time[l + k] = end;
}

// Which noisy lanes of a compartment, below their thresholds at v0 and at v1 after step k, met them: in place of `meets`. The
// noise after the step is left in `after`.
template <class T, class Mask>
__attribute__((noinline)) void meet_noisy(const SteppedLayer<T>& p, SteppedWay<T>& x, int64_t l, int64_t k, const Vector<T>& v0, const Vector<T>& v1,
                                          double end, Mask& meets) {
    for (int lane = 0; lane < kLanes<T>; ++lane) {
        const int64_t at = l + lane;
        if (!(p.rms[at] > 0)) continue;
        meets[lane] = 0, x.after[at] = 0;
        if (x.free[at] >= end) continue;
        Stream random{keyed(x.stream[at], uint64_t(k))};
        x.after[at] = x.noise[at] * p.decay[at] + p.kick[at] * random.normal();
        const double below = double(x.level[at]) - double(v0[lane]) - x.noise[at], left = double(x.level[at]) - double(v1[lane]) - x.after[at];
        if (below <= 0) continue;
        if (left <= 0 || (2 * below * left < 40 * p.spread[at] && random.uniform() < std::exp(-2 * below * left / p.spread[at]))) meets[lane] = -1;
    }
}

// exp of small numbers: to 2e-5 at 0.5, to 1e-7 at 0.2.
SPIKELOOP_INLINE Vector<float> raised_a_little(const Vector<float>& x) {
    const Vector<float> x2 = x * x;
    return (1.0f + x) + x2 * ((0.5f + x * (1.0f / 6)) + x2 * (1.0f / 24 + x * (1.0f / 120)));
}
SPIKELOOP_INLINE Vector<double> raised_a_little(const Vector<double>& x) {
    const Vector<double> x2 = x * x;
    return (1.0 + x) + x2 * ((0.5 + x * (1.0 / 6)) + x2 * ((1.0 / 24 + x * (1.0 / 120)) + x2 * (1.0 / 720 + x * (1.0 / 5040))));
}

// The W vectors of neurons from l on through step `number`: W x L bits, of those that stay where they are and go alone. Arrays of
// vectors run over compartments, and vectors of each.
template <class T, int Compartments, int W, bool Exponential, bool Adaptation, bool Conductance>
struct SteppedVectors {
    using V = Vector<T>;
    typedef decltype(V{} < V{}) Mask;
    static constexpr int kMany = (Compartments ? Compartments : kMaxCompartments) * W, L = kLanes<T>;
    static constexpr int kWith = Adaptation ? kMany : 1, kRising = Exponential ? kMany : 1, kConducting = Conductance ? kMany : 1;

    const SteppedLayer<T>& p;
    SteppedWay<T>& x;
    const int64_t l, n = p.padded;
    const int count = Compartments ? Compartments : p.compartments;
    V v0[kMany], v[kMany], dv[kMany], total_v[kMany], first[kMany], sum[3][kMany], rho[3][kConducting], open[kMany];
    V w0[kWith], w[kWith], dw[kWith], total_w[kWith], rise[kRising];
    V rough[W], turned[W];  // largest e-fold of the exponential term, and of what its argument changes by, squared
    Mask alone[W];
    V next_i[kMaxSlots * W];
    bool holds = false;

    SPIKELOOP_INLINE SteppedVectors(const SteppedLayer<T>& p, SteppedWay<T>& x, int64_t l) : p(p), x(x), l(l) {}
    SPIKELOOP_INLINE int64_t at(int c, int q) const { return c * n + l + q * L; }

    SPIKELOOP_INLINE void begin(double end) {
        SPIKELOOP_UNROLL
        for (int q = 0; q < W; ++q) {
            alone[q] = Mask{}, rough[q] = turned[q] = V{};
            holds |= x.soonest[l / L + q] < kInfinity;
        }
        SPIKELOOP_UNROLL
        for (int c = 0; c < count; ++c) {
            SPIKELOOP_UNROLL
            for (int q = 0; q < W; ++q) {
                const int r = c * W + q;
                v[r] = v0[r] = load(x.v.data() + at(c, q));
                if constexpr (Adaptation) w[r] = w0[r] = load(x.w.data() + at(c, q));
                if (holds) {
                    open[r] = load(x.open.data() + at(c, q));
                    if (x.soonest[l / L + q] < end) released(alone[q], at(c, q), end);
                }
            }
        }
    }
    __attribute__((noinline)) void released(Mask& mask, int64_t from, double end) const {
        for (int k = 0; k < L; ++k)
            if (x.open[from + k] == 0 && x.free[from + k] < end) mask[k] = -1;
    }

    // Currents at the beginning, the middle and the end of the step.
    SPIKELOOP_INLINE void collect() {
        SPIKELOOP_UNROLL
        for (int c = 0; c < count; ++c) {
            SPIKELOOP_UNROLL
            for (int q = 0; q < W; ++q) {
                const int r = c * W + q;
                V j = V{};
                if (p.currents[c] >= 0) j = load(x.j.data() + at(c, q));
                sum[0][r] = sum[1][r] = sum[2][r] = j;
                if constexpr (Conductance) rho[0][r] = rho[1][r] = rho[2][r] = V{};
                if (x.jumped[c]) {
                    const V mean = load(x.jump.data() + c * n + at(c, q)), turn = T(3) * (mean - load(x.jump.data() + (c + 1) * n + at(c, q)));
                    sum[0][r] += mean - turn, sum[1][r] += mean, sum[2][r] += mean + turn;
                }
            }
        }
        for (int s = 0; s < p.slots; ++s) {
            SPIKELOOP_UNROLL
            for (int q = 0; q < W; ++q) collect(s, q);
        }
    }
    // What the arrivals of a slot bring: I at the end, its mean and its first moment. Their sums are cleared.
    struct Arrived {
        V jump, mean, moment;
    };
    SPIKELOOP_INLINE Arrived arrived(int s, int q) {
        T* sums = x.arriving.data() + 3 * s * n + at(s, q);
        const V m0 = load(sums), m1 = load(sums + n), m2 = load(sums + 2 * n), m3 = load(sums + 3 * n);
        const T *e = p.end.data() + 3 * s * n + at(s, q), *a = p.mean.data() + 2 * s * n + at(s, q), *b = p.moment.data() + 2 * s * n + at(s, q);
        if (p.limits) {
            const int c = p.slot_of[s][0];
            const V most = load(p.most.data() + at(s, q)), low = load(p.low.data() + at(c, q)), i = load(x.i.data() + at(s, q));
            const V high = (i < 0 ? -i : i) + (m0 < 0 ? -m0 : m0);
            alone[q] |= (high >= most) | ((v0[c * W + q] <= low) & ((m0 != 0) | (m1 != 0)));
        }
        store(sums, V{}), store(sums + n, V{}), store(sums + 2 * n, V{}), store(sums + 3 * n, V{});
        return {(load(e) * m0 + load(e + n) * m1) + (load(e + 2 * n) * m2 + load(e + 3 * n) * m3),
                load(a) * m1 + load(a + n) * m2 + load(a + 2 * n) * m3, load(b) * m1 + load(b + n) * m2 + load(b + 2 * n) * m3};
    }
    SPIKELOOP_INLINE void collect(int s, int q) {
        const int c = p.slot_of[s][0], r = c * W + q;
        const V half = load(p.half.data() + at(s, q)), i = load(x.i.data() + at(s, q));
        V i0 = i, i1 = i * half, i2 = i1 * half, next = i2;
        if (x.touched[s]) {
            const auto [jump, mean, moment] = arrived(s, q);
            next += jump;
            i0 += T(6) * moment - T(2) * mean, i1 += mean, i2 += T(4) * mean - T(6) * moment;
        }
        next_i[s * W + q] = next;
        sum[0][r] += i0, sum[1][r] += i1, sum[2][r] += i2;
        if constexpr (Conductance) {
            const V rho_s = load(p.rho.data() + at(s, q));
            rho[0][r] += rho_s * i0, rho[1][r] += rho_s * i1, rho[2][r] += rho_s * i2;
        }
    }

    // What v and w change by over a step at the slope of here; `when`: beginning, middle or end. The exponential is largest at the
    // first stage or the last.
    template <int Stage>
    SPIKELOOP_INLINE void slopes(int when) {
        SPIKELOOP_UNROLL
        for (int c = 0; c < count; ++c) {
            SPIKELOOP_UNROLL
            for (int q = 0; q < W; ++q) {
                const int r = c * W + q;
                V f = sum[when][r];
                if constexpr (Conductance) f -= (p.leaky[c] + rho[when][r]) * v[r];
                else f -= p.leaky[c] * v[r];
                if constexpr (Adaptation) f -= w[r], dw[r] = load(p.adapting.data() + at(c, q)) * (load(p.a.data() + at(c, q)) * v[r] - w[r]);
                f *= load(p.alpha.data() + at(c, q));
                if constexpr (Exponential) {
                    const V inverse = load(p.inverse.data() + at(c, q));
                    V e;
                    if constexpr (Stage == 0) {
                        e = rise[r] = load(p.rising.data() + at(c, q)) * raised(v[r] * inverse - load(p.exponent.data() + at(c, q)));
                    } else {
                        const V by = (Stage == 3 ? dv[r] : T(0.5) * dv[r]) * inverse;
                        e = rise[r] * raised_a_little(by);
                        if constexpr (Stage == 3) turned[q] = larger(turned[q], by * by);
                    }
                    f += e * load(p.scale.data() + at(c, q));
                    if constexpr (Stage == 0 || Stage == 3) rough[q] = larger(rough[q], holds ? e * open[r] : e);
                }
                dv[r] = f;
            }
        }
        if constexpr (Compartments != 1)
            for (int e = 0; e < p.edges; ++e) {
                const int c = p.edge[e].c, d = p.edge[e].d;
                const V difference = v[d] - v[c] + load(p.offset.data() + at(e, 0));
                dv[c] += load(p.into_c.data() + at(e, 0)) * difference, dv[d] -= load(p.into_d.data() + at(e, 0)) * difference;
            }
        if (holds)
            for (int r = 0; r < count * W; ++r) dv[r] *= open[r];
    }
    SPIKELOOP_INLINE void move(T share) {
        SPIKELOOP_UNROLL
        for (int r = 0; r < count * W; ++r) {
            v[r] = v0[r] + share * dv[r];
            if constexpr (Adaptation) w[r] = w0[r] + share * dw[r];
        }
    }
    SPIKELOOP_INLINE void add(T share) {
        SPIKELOOP_UNROLL
        for (int r = 0; r < count * W; ++r) {
            total_v[r] += share * dv[r];
            if constexpr (Adaptation) total_w[r] += share * dw[r];
        }
    }
    SPIKELOOP_INLINE void integrate() {
        slopes<0>(0);
        SPIKELOOP_UNROLL
        for (int r = 0; r < count * W; ++r) {
            first[r] = dv[r], total_v[r] = dv[r];
            if constexpr (Adaptation) total_w[r] = dw[r];
        }
        move(T(0.5)), slopes<1>(1), add(T(2));
        move(T(0.5)), slopes<2>(1), add(T(2));
        move(T(1)), slopes<3>(2), add(T(1));
        SPIKELOOP_UNROLL
        for (int r = 0; r < count * W; ++r) {
            v[r] = v0[r] + T(1.0 / 6) * total_v[r];
            if constexpr (Adaptation) w[r] = w0[r] + T(1.0 / 6) * total_w[r];
        }
    }

    // The same where everything is linear and nothing is held, by the layer's matrices.
    SPIKELOOP_INLINE void propagate() {
        const auto row = [&](const std::vector<T>& matrix, int64_t place) { return load(matrix.data() + place * n + l); };
        V begins[kMany], ends[kMany];
        for (int c = 0; c < count; ++c) v[c] = row(p.by_leak, c), begins[c] = ends[c] = first[c] = dv[c] = V{};
        const auto feel = [&](const std::vector<T>& matrix, int width, int d, const V& what) {
            for (int c = 0; c < count; ++c) v[c] += row(matrix, c * width + d) * what;
        };
        for (int d = 0; d < count; ++d) {
            feel(p.by_v, count, d, v0[d]);
            V mean = V{}, turn = V{};
            if (p.currents[d] >= 0) mean = load(x.j.data() + at(d, 0));
            if (x.jumped[d]) {
                const V jump = load(x.jump.data() + d * n + at(d, 0));
                turn = T(3) * (jump - load(x.jump.data() + (d + 1) * n + at(d, 0))), mean += jump;
                feel(p.by_turn, count, d, turn);
            }
            if (p.currents[d] >= 0) feel(p.by_input, count, d, mean), begins[d] += mean - turn, ends[d] += mean + turn;
        }
        for (int s = 0; s < p.slots; ++s) {
            const int d = p.slot_of[s][0];
            const V half = load(p.half.data() + at(s, 0)), i = load(x.i.data() + at(s, 0)), after = i * half * half;
            next_i[s] = after, begins[d] += i, ends[d] += after;
            feel(p.by_i, p.slots, s, i);
            if (!x.touched[s]) continue;
            const auto [jump, mean, moment] = arrived(s, 0);
            const V turn = T(3) * mean - T(6) * moment;
            next_i[s] += jump, begins[d] += mean - turn, ends[d] += mean + turn;
            feel(p.by_input, count, d, mean), feel(p.by_turn, count, d, turn);
        }
        for (int c = 0; c < count; ++c) {
            if (!p.watched[c]) continue;
            const V alpha = load(p.alpha.data() + at(c, 0));
            first[c] = alpha * (begins[c] - p.leaky[c] * v0[c]), dv[c] = alpha * (ends[c] - p.leaky[c] * v[c]);
        }
        for (int e = 0; e < p.edges; ++e) {
            const int c = p.edge[e].c, d = p.edge[e].d;
            if (!p.watched[c] && !p.watched[d]) continue;
            const V leaks = load(p.offset.data() + at(e, 0)), into_c = load(p.into_c.data() + at(e, 0)), into_d = load(p.into_d.data() + at(e, 0));
            const V before = v0[d] - v0[c] + leaks, after = v[d] - v[c] + leaks;
            first[c] += into_c * before, first[d] -= into_d * before, dv[c] += into_c * after, dv[d] -= into_d * after;
        }
    }

    SPIKELOOP_INLINE void look(int64_t number, double end) {
        SPIKELOOP_UNROLL
        for (int c = 0; c < count; ++c) {
            SPIKELOOP_UNROLL
            for (int q = 0; q < W; ++q) {
                const int r = c * W + q;
                const V level = load(x.level.data() + at(c, q)), top = v0[r] + T(0.5) * larger(first[r], V{});
                Mask meets = (v0[r] < level) & ((v[r] >= level) | ((dv[r] < 0) & (top >= level)));
                if (holds) meets &= open[r] > 0;
                if (p.noisy) meet_noisy(p, x, at(c, q), number, v0[r], v[r], end, meets);
                alone[q] |= meets;
                if constexpr (Exponential)
                    alone[q] |= ~(rough[q] < T(kSteppedRough)) | ((turned[q] > T(0.25)) & ((rise[r] > T(1e-6)) | (turned[q] > 9)));
                if (!x.peak.empty() && c == p.cells.output) {
                    alone[q] |= (first[r] > 0) & (dv[r] < 0) & (top > load(x.peak.data() + at(0, q)));
                    see_peaks(x, at(0, q), v[r], end);
                }
            }
        }
    }

    SPIKELOOP_INLINE uint64_t settle() {
        Mask some = alone[0];
        SPIKELOOP_UNROLL
        for (int q = 1; q < W; ++q) some |= alone[q];
        if (!any(some)) [[likely]] {
            SPIKELOOP_UNROLL
            for (int c = 0; c < count; ++c) {
                SPIKELOOP_UNROLL
                for (int q = 0; q < W; ++q) {
                    store(x.v.data() + at(c, q), v[c * W + q]);
                    if constexpr (Adaptation) store(x.w.data() + at(c, q), w[c * W + q]);
                    if (p.noisy) std::copy_n(x.after.data() + at(c, q), L, x.noise.data() + at(c, q));
                }
            }
            for (int s = 0; s < p.slots; ++s) {
                SPIKELOOP_UNROLL
                for (int q = 0; q < W; ++q) store(x.i.data() + at(s, q), next_i[s * W + q]);
            }
            return 0;
        }
        return settle_some();
    }
    __attribute__((noinline)) uint64_t settle_some() {
        uint64_t bits = 0;
        for (int q = 0; q < W; ++q) {
            for (int c = 0; c < count; ++c) {
                store(x.v.data() + at(c, q), V(alone[q] ? v0[c * W + q] : v[c * W + q]));
                if constexpr (Adaptation) store(x.w.data() + at(c, q), V(alone[q] ? w0[c * W + q] : w[c * W + q]));
                for (int k = 0; p.noisy && k < L; ++k)
                    if (!alone[q][k]) x.noise[at(c, q) + k] = x.after[at(c, q) + k];
            }
            for (int s = 0; s < p.slots; ++s) store(x.i.data() + at(s, q), V(alone[q] ? load(x.i.data() + at(s, q)) : next_i[s * W + q]));
            for (int k = 0; k < L; ++k) bits |= uint64_t(alone[q][k] != 0) << (q * L + k);
        }
        return bits;
    }
};

// A population's neurons through step k.
template <class T, int Compartments, bool Exponential, bool Adaptation, bool Conductance>
void step_all(SteppedSample<T>& sample, int p, int64_t k, const SteppedEvent* events, int64_t count, SteppedRange range) {
    constexpr int W = Compartments == 1 ? 2 : 1;
    const SteppedLayer<T>& layer = sample.stage.layers[p];
    SteppedWay<T>& way = sample.ways[p];
    const double h = sample.stage.run.step, end = double(k + 1) * h;
    for (int64_t l = range.first; l < std::min(range.last, layer.size); l += W * kLanes<T>) {
        SteppedVectors<T, Compartments, W, Exponential, Adaptation, Conductance> vectors(layer, way, l);
        vectors.begin(end);
        if (Compartments == 0 && !layer.by_v.empty() && !vectors.holds) vectors.propagate();
        else vectors.collect(), vectors.integrate();
        vectors.look(k, end);
        uint64_t alone = vectors.settle();
        if (!alone) [[likely]] continue;
        for (; alone; alone &= alone - 1)
            if (const int64_t m = l + __builtin_ctzll(alone); m < layer.size) sample.go_alone(p, m, k, events, count);
        for (int q = 0; q < W; ++q) sample.look_for_releases(p, l / kLanes<T> + q, end);
    }
    std::fill(way.touched.begin(), way.touched.end(), uint8_t(0));
}

template <class T>
using SteppedKernel = void (*)(SteppedSample<T>&, int, int64_t, const SteppedEvent*, int64_t, SteppedRange);

#if SPIKELOOP_TARGETS && SPIKELOOP_TARGET == 0
template <class T>
SteppedKernel<T> kernel_of(const SteppedLayer<T>& x) {  // old machines: two kernels, to be compiled sooner
    return x.compartments == 1 ? step_all<T, 1, true, true, true> : step_all<T, 0, true, true, true>;
}
#else
template <class T>
SteppedKernel<T> kernel_of(const SteppedLayer<T>& x) {
    const bool more = x.exponential || x.adaptation;
    if (x.compartments > 1) return more ? step_all<T, 0, true, true, true> : x.conductance ? step_all<T, 0, false, false, true> : step_all<T, 0, false, false, false>;
    if (x.conductance) return more ? step_all<T, 1, true, true, true> : step_all<T, 1, false, false, true>;
    if (!more) return step_all<T, 1, false, false, false>;
    return !x.adaptation ? step_all<T, 1, true, false, false> : x.exponential ? step_all<T, 1, true, true, false> : step_all<T, 1, false, true, false>;
}
#endif

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
            sample.end_jumps(int(p), k);
        }
    }
    for (size_t p = 0; p < kernels.size(); ++p) sample.take_samples(int(p), run.first + run.steps, true, nullptr, 0, range);
}
