// A step of vectors of neurons: Runge and Kutta's fourth-order rule.

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
    Mask alone[W], pulled[kMany];  // pulled: something of this step pulls down
    V excess[kMany];               // what positive arrivals bring at most beyond the smooth current at the step's beginning
    static constexpr double kHighest = 1.1;  // times the steepest slope that a step may have
    V next_i[kMaxSlots * W];
    bool holds = false;

    SPIKELOOP_INLINE SteppedVectors(const SteppedLayer<T>& p, SteppedWay<T>& x, int64_t l) : p(p), x(x), l(l) {}
    SPIKELOOP_INLINE int64_t at(int c, int q) const { return c * n + l + q * L; }
    SPIKELOOP_INLINE int compartment_of(int s) const { return Compartments == 1 ? 0 : p.slot_of[s][0]; }  // known: sums stay in registers

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
                v[r] = v0[r] = load(x.v.data() + at(c, q)), pulled[r] = Mask{}, excess[r] = V{};
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
            const int c = compartment_of(s);
            const V most = load(p.most.data() + at(s, q)), low = load(p.low.data() + at(c, q)), i = load(x.i.data() + at(s, q));
            const V high = (i < 0 ? -i : i) + (m0 < 0 ? -m0 : m0);
            alone[q] |= (high >= most) | ((v0[c * W + q] <= low) & ((m0 != 0) | (m1 != 0)));
        }
        store(sums, V{}), store(sums + n, V{}), store(sums + 2 * n, V{}), store(sums + 3 * n, V{});
        T* raising = x.raising.data() + at(s, q);
        const V up = load(raising), mean = load(a) * m1 + load(a + n) * m2 + load(a + 2 * n) * m3;
        const V moment = load(b) * m1 + load(b + n) * m2 + load(b + 2 * n) * m3;
        const int r = compartment_of(s) * W + q;
        store(raising, V{}), pulled[r] |= up > m0, excess[r] += up - (T(6) * moment - T(2) * mean);
        return {(load(e) * m0 + load(e + n) * m1) + (load(e + 2 * n) * m2 + load(e + 3 * n) * m3), mean, moment};
    }
    SPIKELOOP_INLINE void collect(int s, int q) {
        const int c = compartment_of(s), r = c * W + q;
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
                // may have been above the level before something pulled it down
                if (any(pulled[r])) {
                    const V most = v0[r] + T(kHighest) * larger(first[r] + load(p.alpha.data() + at(c, q)) * excess[r], V{});
                    meets |= pulled[r] & (v0[r] < level) & (most >= level);
                }
                if (holds) meets &= open[r] > 0;
                if (p.noisy) meet_noisy(p, x, at(c, q), number, v0[r], v[r], end, meets);
                alone[q] |= meets;
                if constexpr (Conductance)
                    if (Compartments == 1 || p.conducting[c])
                        alone[q] |= ~(load(p.alpha.data() + at(c, q)) * larger(rho[0][r], rho[2][r]) < T(kSteppedStiff));
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
