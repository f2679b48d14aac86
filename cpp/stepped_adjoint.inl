// The smoothed model of stepped_smooth.hpp: a step forwards, a step backwards, and what arrivals and spikes get of it.
#include "stepped_raised.inl"
#include "stepped_arrivals.inl"

// A vector of neurons through one step. Stages of Runge and Kutta's rule are kept: backwards they are computed anew.
template <class T>
struct SmoothVectors {
    using V = Vector<T>;
    static constexpr int C = kMaxCompartments;
    const SteppedLayer<T>& p;
    SteppedWay<T>& x;
    const int64_t l, n = p.padded;
    const T* cap;
    const int count = p.compartments;
    V sum[3][C], rho[3][C], open[C], u[C], w0[C];
    V v[4][C], w[4][C], dv[4][C], dw[4][C], e[4][C], f[4][C], freely[4][C];  // at each stage; e: of the exponential, f: the slope without alpha, freely: dv without a hold
    V mean[kMaxSlots], moment[kMaxSlots], arrived[kMaxSlots];

    SPIKELOOP_INLINE SmoothVectors(const SteppedLayer<T>& p, SteppedWay<T>& x, int64_t l, const T* cap) : p(p), x(x), l(l), cap(cap) {}
    SPIKELOOP_INLINE V of(const std::vector<T>& rows, int64_t row) const { return load(rows.data() + row * n + l); }

    SPIKELOOP_INLINE void collect(const T* i) {
        for (int c = 0; c < count; ++c) {
            const V j = p.currents[c] >= 0 ? of(x.j, c) : V{};
            sum[0][c] = sum[1][c] = sum[2][c] = j, rho[0][c] = rho[1][c] = rho[2][c] = V{};
            if (!x.jumped[c]) continue;
            const V mid = of(x.jump, 2 * c), turn = T(3) * (mid - of(x.jump, 2 * c + 1));
            sum[0][c] += mid - turn, sum[1][c] += mid, sum[2][c] += mid + turn;
        }
        for (int s = 0; s < p.slots; ++s) {
            const V m0 = of(x.arriving, 4 * s), m1 = of(x.arriving, 4 * s + 1), m2 = of(x.arriving, 4 * s + 2), m3 = of(x.arriving, 4 * s + 3);
            arrived[s] = (of(p.end, 4 * s) * m0 + of(p.end, 4 * s + 1) * m1) + (of(p.end, 4 * s + 2) * m2 + of(p.end, 4 * s + 3) * m3);
            mean[s] = of(p.mean, 3 * s) * m1 + of(p.mean, 3 * s + 1) * m2 + of(p.mean, 3 * s + 2) * m3;
            moment[s] = of(p.moment, 3 * s) * m1 + of(p.moment, 3 * s + 1) * m2 + of(p.moment, 3 * s + 2) * m3;
            const int c = p.slot_of[s][0];
            const V half = of(p.half, s), r = of(p.rho, s), i0 = load(i + s * n + l);
            const V now[3] = {i0 + T(6) * moment[s] - T(2) * mean[s], i0 * half + mean[s], i0 * half * half + T(4) * mean[s] - T(6) * moment[s]};
            for (int k = 0; k < 3; ++k) sum[k][c] += now[k], rho[k][c] += r * now[k];
        }
    }

    SPIKELOOP_INLINE V argument(int k, int c) const { return v[k][c] * of(p.inverse, c) - of(p.exponent, c); }
    SPIKELOOP_INLINE void slopes(int k, int when) {
        for (int c = 0; c < count; ++c) {
            f[k][c] = sum[when][c] - (p.leaky[c] + rho[when][c]) * v[k][c] - w[k][c];
            dw[k][c] = of(p.adapting, c) * (of(p.a, c) * v[k][c] - w[k][c]);
            dv[k][c] = f[k][c] * of(p.alpha, c);
            if (p.exponential) {
                const V most = load(cap + c * n + l), given = argument(k, c);
                e[k][c] = of(p.rising, c) * raised(given < most ? given : most);
                dv[k][c] += e[k][c] * of(p.scale, c);
            }
        }
        for (int j = 0; j < p.edges; ++j) {
            const int c = p.edge[j].c, d = p.edge[j].d;
            const V difference = v[k][d] - v[k][c] + of(p.offset, j);
            dv[k][c] += of(p.into_c, j) * difference, dv[k][d] -= of(p.into_d, j) * difference;
        }
        for (int c = 0; c < count; ++c) freely[k][c] = dv[k][c], dv[k][c] *= open[c];
    }
    SPIKELOOP_INLINE void integrate() {
        constexpr T share[4] = {0, T(0.5), T(0.5), 1};
        constexpr int when[4] = {0, 1, 1, 2};
        for (int k = 0; k < 4; ++k) {
            for (int c = 0; c < count; ++c) {
                v[k][c] = u[c], w[k][c] = w0[c];
                if (k > 0) v[k][c] += share[k] * dv[k - 1][c], w[k][c] += share[k] * dw[k - 1][c];
            }
            slopes(k, when[k]);
        }
    }
};

// 1 where a mark is set.
template <class T>
SPIKELOOP_INLINE Vector<T> marked(const uint16_t* mark, int bits) {
    Vector<T> x;
    for (int k = 0; k < kLanes<T>; ++k) x[k] = T((mark[k] & bits) != 0);
    return x;
}
template <class T>
SPIKELOOP_INLINE Vector<T> spikes_of(const uint16_t* mark) {
    Vector<T> x;
    for (int k = 0; k < kLanes<T>; ++k) x[k] = T(mark[k] / kOneSpike);
    return x;
}

template <class T>
struct SmoothStep {
    using V = Vector<T>;
    SteppedSmooth<T>& all;
    int p;
    int64_t k;
    const SteppedLayer<T>& layer = all.stage.layers[p];
    typename SteppedSmooth<T>::Trail& trail = all.trails[p];
    const int64_t n = layer.padded, row = layer.compartments * n, slots = layer.slots * n, step = k - all.stage.run.first;

    SPIKELOOP_INLINE void set(SmoothVectors<T>& x, int64_t l) {
        for (int c = 0; c < x.count; ++c) {
            const int64_t at = step * row + c * n + l;
            const V spiked = marked<T>(trail.mark.data() + at, kSpiked);
            x.open[c] = load(trail.open.data() + at), x.w0[c] = load(trail.w.data() + at);
            x.u[c] = spiked > 0 ? load(all.slopes[p].reset.data() + c * n + l) : load(trail.v.data() + at);
        }
        x.collect(trail.i.data() + step * slots);
        x.integrate();
    }

    void forwards(int64_t l) {
        SmoothVectors<T> x(layer, all.sample.ways[p], l, all.slopes[p].cap.data());
        set(x, l);
        for (int c = 0; c < x.count; ++c) {
            const int64_t at = step * row + c * n + l, next = at + row;
            const V jump = spikes_of<T>(trail.mark.data() + at) * load(all.slopes[p].b.data() + c * n + l);
            store(trail.v.data() + next, V(x.u[c] + T(1.0 / 6) * (x.dv[0][c] + T(2) * (x.dv[1][c] + x.dv[2][c]) + x.dv[3][c])));
            store(trail.w.data() + next, V(x.w0[c] + T(1.0 / 6) * (x.dw[0][c] + T(2) * (x.dw[1][c] + x.dw[2][c]) + x.dw[3][c]) + jump));
        }
        for (int s = 0; s < layer.slots; ++s) {
            const V half = x.of(layer.half, s), i = load(trail.i.data() + step * slots + s * n + l);
            store(trail.i.data() + (step + 1) * slots + s * n + l, V(i * half * half + x.arrived[s]));
        }
    }

    SPIKELOOP_INLINE void add(std::vector<T>& sums, int64_t r, int64_t l, const V& what) { store(sums.data() + r * n + l, V(load(sums.data() + r * n + l) + what)); }

    // dL/d(v, w, I) from the end of the step to its beginning, but for what its spikes send: see `spikes`.
    void backwards(int64_t l, SteppedSums<T>& sums) {
        SmoothVectors<T> x(layer, all.sample.ways[p], l, all.slopes[p].cap.data());
        set(x, l);
        V lv[kMaxCompartments], lw[kMaxCompartments], gv[kMaxCompartments], gw[kMaxCompartments], bu[kMaxCompartments], bw[kMaxCompartments];
        V bsum[3][kMaxCompartments], brho[3][kMaxCompartments], by_open[kMaxCompartments];
        for (int c = 0; c < x.count; ++c) {
            const int64_t at = step * row + c * n + l;
            lv[c] = load(trail.lv.data() + c * n + l), lw[c] = load(trail.lw.data() + c * n + l);
            const V crossed = marked<T>(trail.mark.data() + at, kCrossed);
            add(sums.reset, c, l, lv[c] * crossed), lv[c] *= 1 - crossed;
            add(sums.b, c, l, lw[c] * (crossed + spikes_of<T>(trail.mark.data() + at)));
            bu[c] = lv[c], bw[c] = lw[c], gv[c] = gw[c] = by_open[c] = V{};
            for (int when = 0; when < 3; ++when) bsum[when][c] = brho[when][c] = V{};
        }
        constexpr T weight[4] = {T(1.0 / 6), T(1.0 / 3), T(1.0 / 3), T(1.0 / 6)}, onward[4] = {T(0.5), T(0.5), 1, 0};
        constexpr int when[4] = {0, 1, 1, 2};
        for (int k4 = 3; k4 >= 0; --k4) {
            V g[kMaxCompartments], h[kMaxCompartments];  // dL/d of the slopes of this stage; gv, gw: of the state of the next one
            for (int c = 0; c < x.count; ++c) {
                const V onto = weight[k4] * lv[c] + onward[k4] * gv[c];
                by_open[c] += onto * x.freely[k4][c];
                g[c] = onto * x.open[c], h[c] = weight[k4] * lw[c] + onward[k4] * gw[c];
                const V alpha = x.of(layer.alpha, c), adapting = x.of(layer.adapting, c), a = x.of(layer.a, c), v = x.v[k4][c];
                const V along = g[c] * alpha;
                bsum[when[k4]][c] += along, brho[when[k4]][c] -= along * v;
                gv[c] = h[c] * adapting * a - along * (layer.leaky[c] + x.rho[when[k4]][c]), gw[c] = -along - h[c] * adapting;
                add(sums.alpha, c, l, g[c] * x.f[k4][c]), add(sums.adapting, c, l, h[c] * (a * v - x.w[k4][c])), add(sums.a, c, l, h[c] * adapting * v);
                if (layer.exponential) {
                    const V given = x.argument(k4, c), rise = g[c] * x.e[k4][c], below = given < load(x.cap + c * n + l) ? rise : V{};
                    gv[c] += below;
                    // of slope_factor exp((v - threshold) / slope_factor) h / tau_mem: by slope_factor, by the threshold
                    add(sums.scale, c, l, rise - below * given), add(sums.exponent, c, l, -below);
                    const V kept = x.of(layer.rising, c);  // capped, it is a number that does not depend on tau_mem
                    add(sums.alpha, c, l, kept > 0 ? below * x.of(layer.scale, c) / kept : V{});
                }
            }
            for (int j = 0; j < layer.edges; ++j) {
                const int c = layer.edge[j].c, d = layer.edge[j].d;
                const V difference = x.v[k4][d] - x.v[k4][c] + x.of(layer.offset, j);
                const V along = g[c] * x.of(layer.into_c, j) - g[d] * x.of(layer.into_d, j);
                add(sums.into_c, j, l, g[c] * difference), add(sums.into_d, j, l, -g[d] * difference);
                add(sums.leak, d, l, along), add(sums.leak, c, l, -along);
                gv[d] += along, gv[c] -= along;
            }
            for (int c = 0; c < x.count; ++c) bu[c] += gv[c], bw[c] += gw[c];
        }
        currents(x, l, bsum, brho, sums);
        for (int c = 0; c < x.count; ++c) {
            const uint16_t* mark = trail.mark.data() + step * row + c * n + l;
            const V spiked = marked<T>(mark, kSpiked);
            add(sums.reset, c, l, bu[c] * spiked), add(sums.refractory, c, l, -by_open[c] * marked<T>(mark, kReleased));
            store(trail.lv.data() + c * n + l, V(bu[c] * (1 - spiked))), store(trail.lw.data() + c * n + l, bw[c]);
        }
    }

    SPIKELOOP_INLINE void currents(const SmoothVectors<T>& x, int64_t l, const V (*bsum)[kMaxCompartments], const V (*brho)[kMaxCompartments], SteppedSums<T>& sums) {
        const SteppedSlopes<T>& by = all.slopes[p];
        for (int s = 0; s < layer.slots; ++s) {
            const int c = layer.slot_of[s][0];
            const V half = x.of(layer.half, s), r = x.of(layer.rho, s), i = load(trail.i.data() + step * slots + s * n + l);
            const V b0 = bsum[0][c] + r * brho[0][c], b1 = bsum[1][c] + r * brho[1][c], b2 = bsum[2][c] + r * brho[2][c];
            const V end = load(trail.li.data() + s * n + l), mean = b1 + T(4) * b2 - T(2) * b0, moment = T(6) * (b0 - b2);
            const V i0 = i + T(6) * x.moment[s] - T(2) * x.mean[s], i1 = i * half + x.mean[s], i2 = i * half * half + T(4) * x.mean[s] - T(6) * x.moment[s];
            add(sums.rho, s, l, brho[0][c] * i0 + brho[1][c] * i1 + brho[2][c] * i2);
            V slope = load(by.half.data() + s * n + l) * i * (b1 + T(2) * half * (b2 + end));
            for (int q = 0; q < 4; ++q) {
                V of_sum = x.of(layer.end, 4 * s + q) * end, of_slope = load(by.end.data() + (4 * s + q) * n + l) * end;
                if (q > 0) {
                    of_sum += x.of(layer.mean, 3 * s + q - 1) * mean + x.of(layer.moment, 3 * s + q - 1) * moment;
                    of_slope += load(by.mean.data() + (3 * s + q - 1) * n + l) * mean + load(by.moment.data() + (3 * s + q - 1) * n + l) * moment;
                }
                store(trail.arrival.data() + (4 * s + q) * n + l, of_sum);
                slope += of_slope * x.of(x.x.arriving, 4 * s + q);
            }
            add(sums.beta, s, l, slope);
            store(trail.li.data() + s * n + l, V(b0 + half * b1 + half * half * (b2 + end)));
        }
    }

    // What the output compartment's spikes of this step are worth goes to v at its beginning; `next_w`: dL/dw at its end.
    void spikes(const std::vector<T>& next_w, SteppedSums<T>& sums) {
        const int64_t out = layer.cells.output * n;
        const SteppedSlopes<T>& by = all.slopes[p];
        const uint8_t* silent = layer.population.silent;
        for (int64_t m = 0; m < layer.size; ++m) {
            if (!(trail.mark[step * row + out + m] & kAble) || !(layer.threshold[out + m] < std::numeric_limits<T>::infinity())) continue;
            if (silent && silent[all.sample.number * layer.size + m]) continue;
            const T distance = std::abs(trail.v[step * row + out + m] - layer.threshold[out + m]) / by.unit[out + m], root = 1 + T(all.beta) * distance;
            const T worth = trail.spike[step * layer.size + m] + by.b[out + m] * next_w[out + m];
            const T slope = worth / (by.unit[out + m] * root * root);
            trail.lv[out + m] += slope, sums.threshold[out + m] -= slope;
        }
    }
};

// ---- arrivals -----------------------------------------------------------------------------------------------------

// Sums over neurons of weight x dL/d(sums of weight x^q), of one row: four numbers.
template <class T>
SPIKELOOP_INLINE void products(const T* weight, const T* arrival, int64_t size, int64_t padded, T* out) {
    constexpr int L = kLanes<T>;
    Vector<T> sum[4] = {};
    for (int64_t m = 0; m < size; m += L) {
        const Vector<T> row = m + L <= size ? load(weight + m) : load_some(weight + m, int(size - m));
        for (int q = 0; q < 4; ++q) sum[q] += row * load(arrival + q * padded + m);
    }
    for (int q = 0; q < 4; ++q) out[q] = T(total<T>(sum[q]));
}

template <class T>
struct SmoothArrivals {
    SteppedSmooth<T>& all;
    int64_t k;
    const SteppedStage<T>& stage = all.stage;
    const double h = stage.run.step;

    const T* arrival(const SteppedLink<T>& link) const {
        const SteppedLayer<T>& layer = stage.layers[link.target];
        return all.trails[link.target].arrival.data() + 4 * layer.slot_at[link.receptor * layer.compartments + link.compartment] * layer.padded;
    }

    // dL/dweight of what arrived in step k.
    void weights(const SteppedEvent* events, int64_t count, const std::vector<T*>& gradient) const {
        for (int64_t e = 0; e < count; ++e) {
            const SteppedEvent& event = events[e];
            const SteppedLink<T>& link = stage.links[event.link];
            T* to = gradient[event.link];
            if (!to) continue;
            const int64_t n = stage.layers[link.target].padded, size = stage.layers[link.target].size;
            const double x = (double(k + 1) * h - event.time) / h, y = event.amplitude;
            const T x0 = T(y), x1 = T(y * x), x2 = T(y * x * x), x3 = T(y * x * x * x);
            const T* at = arrival(link);
            if (!link.unit) {
                T* row = to + event.unit * size;
                for (int64_t m = 0; m < size; ++m) row[m] += (x0 * at[m] + x1 * at[n + m]) + (x2 * at[2 * n + m] + x3 * at[3 * n + m]);
                continue;
            }
            const int64_t from = event.synapse >= 0 ? event.synapse : link.begin[event.unit], last = event.synapse >= 0 ? from + 1 : link.begin[event.unit + 1];
            for (int64_t s = from; s < last; ++s) {
                const T* own = at + link.unit[s];
                to[link.index ? link.index[s] : s] += (x0 * own[0] + x1 * own[n]) + (x2 * own[2 * n] + x3 * own[3 * n]);
            }
        }
    }

    // dL/d(size) of those that draw on resources.
    void sizes(const SteppedEvent* events, int64_t count, std::vector<SmoothDraws<T>>& draws) const {
        for (int64_t e = 0; e < count; ++e) {
            const SteppedEvent& event = events[e];
            SmoothDraws<T>& drawn = draws[event.link];
            if (!drawn.of) continue;
            const SteppedLink<T>& link = stage.links[event.link];
            const int64_t n = stage.layers[link.target].padded, size = stage.layers[link.target].size;
            const double x = (double(k + 1) * h - event.time) / h;
            const T* at = arrival(link);
            T values[4] = {};
            if (!link.unit) {
                products(link.weight + event.unit * size, at, size, n, values);
            } else {
                const int64_t from = event.synapse >= 0 ? event.synapse : link.begin[event.unit], last = event.synapse >= 0 ? from + 1 : link.begin[event.unit + 1];
                for (int64_t s = from; s < last; ++s) {
                    const T weight = link.weight[link.index ? link.index[s] : s], *own = at + link.unit[s];
                    for (int q = 0; q < 4; ++q) values[q] += weight * own[q * n];
                }
            }
            drawn.by_size[event.number - drawn.of.start[all.sample.number]] += values[0] + x * (values[1] + x * (values[2] + x * values[3]));
        }
    }

    // dL/dS of the steps whose spikes, sent in their middle, arrive in step k.
    void sources(size_t number, T* source) const {
        const SteppedLink<T>& link = stage.links[number];
        const int64_t n = stage.layers[link.target].padded, size = stage.layers[link.target].size;
        const T* at = arrival(link);
        for (int64_t u = 0; u < link.size; ++u) {
            if (link.delays == SteppedDelay::per_synapse || link.unit) {
                for (int64_t s = link.begin[u]; s < link.begin[u + 1]; ++s) {
                    const T weight = link.weight[link.index ? link.index[s] : s], *own = at + link.unit[s];
                    const T values[4] = {weight * own[0], weight * own[n], weight * own[2 * n], weight * own[3 * n]};
                    const int64_t d = link.delays == SteppedDelay::per_synapse ? s : link.delays == SteppedDelay::per_unit ? u : 0;
                    give(link, link.delay[d], u, values, source);
                }
                continue;
            }
            T values[4];
            products(link.weight + u * size, at, size, n, values);
            give(link, link.delay[link.delays == SteppedDelay::per_unit ? u : 0], u, values, source);
        }
    }

  private:
    void give(const SteppedLink<T>& link, double delay, int64_t u, const T* values, T* source) const {
        const double place = 0.5 + delay / h;
        int64_t later = int64_t(std::floor(place));
        T x = T(1 - (place - double(later)));
        if (link.source >= 0 && later == 0) later = 1, x = 1;
        const int64_t sent = k - stage.run.first - later;
        if (sent < 0) return;
        source[sent * link.size + u] += values[0] + x * (values[1] + x * (values[2] + x * values[3]));
    }
};

// ---- a sample -----------------------------------------------------------------------------------------------------

template <class T>
void smooth_sample(SteppedSmooth<T>& all, const std::vector<T*>& weight, const std::vector<T*>& source, std::vector<SteppedSums<T>>& sums, Watch& watch) {
    const SteppedStage<T>& stage = all.stage;
    const int64_t first = stage.run.first, last = first + stage.run.steps;
    const auto arrive = [&](int64_t k, int64_t& count) {
        const SteppedEvent* events = all.sample.arrivals(k, count);
        for (size_t p = 0; p < stage.layers.size(); ++p) {
            std::fill(all.sample.ways[p].arriving.begin(), all.sample.ways[p].arriving.end(), T(0));
            std::fill(all.sample.ways[p].raising.begin(), all.sample.ways[p].raising.end(), T(0));
            all.sample.deliver_jumps(int(p), k, {});
        }
        if (count) deliver(stage, all.sample, k, events, count, SteppedRange{});
        return events;
    };
    std::vector<SmoothDraws<T>> draws;
    const Drawn nothing;
    for (size_t l = 0; l < stage.links.size(); ++l)
        draws.emplace_back(stage.links[l].source >= 0 || source[l] ? stage.links[l].drawn : nothing, stage.run.steps, all.sample.number);
    int64_t count = 0;
    for (int64_t k = first; k < last; ++k) {
        watch.glance();
        arrive(k, count);
        for (size_t p = 0; p < stage.layers.size(); ++p) {
            all.open(int(p), k);
            SmoothStep<T> step{all, int(p), k};
            for (int64_t l = 0; l < step.n; l += kLanes<T>) step.forwards(l);
            all.cross(int(p), k);
            all.sample.end_jumps(int(p), k);
        }
    }
    for (int64_t k = last - 1; k >= first; --k) {
        watch.glance();
        for (size_t p = 0; p < stage.layers.size(); ++p) all.seek_currents(int(p), k);
        const SteppedEvent* events = arrive(k, count);
        std::vector<std::vector<T>> next_w;
        for (size_t p = 0; p < stage.layers.size(); ++p) {
            SmoothStep<T> step{all, int(p), k};
            auto& trail = all.trails[p];
            const int64_t at = (k + 1 - first) * step.row;
            for (int64_t j = 0; !trail.pull.empty() && j < step.row; ++j) trail.lv[j] += trail.pull[at + j];
            next_w.push_back(trail.lw);
            for (int64_t l = 0; l < step.n; l += kLanes<T>) step.backwards(l, sums[p]);
            all.sample.ways[p].jumped.assign(stage.layers[p].compartments, 0);
        }
        SmoothArrivals<T> arrivals{all, k};
        arrivals.weights(events, count, weight);
        arrivals.sizes(events, count, draws);
        for (size_t number = 0; number < stage.links.size(); ++number) {
            const SteppedLink<T>& link = stage.links[number];
            T* to = link.source >= 0 ? all.trails[link.source].spike.data() : source[number];
            if (!to) continue;
            SmoothDraws<T>& drawn = draws[number];
            arrivals.sources(number, drawn.of ? drawn.felt.data() : to);
            if (!drawn.of) continue;
            T* felt = drawn.felt.data() + (k - first) * link.size;
            draw_back(drawn.of, drawn.state(), all.sample.number, k, (double(k) + 0.5) * stage.run.step, drawn.by_size.data(), felt);
            for (int64_t u = 0; u < link.size; ++u) to[(k - first) * link.size + u] += felt[u];
        }
        for (size_t p = 0; p < stage.layers.size(); ++p) SmoothStep<T>{all, int(p), k}.spikes(next_w[p], sums[p]);
    }
    for (size_t p = 0; p < stage.layers.size(); ++p) {
        auto& trail = all.trails[p];
        const SteppedLayer<T>& layer = stage.layers[p];
        for (size_t j = 0; !trail.pull.empty() && j < trail.lv.size(); ++j) trail.lv[j] += trail.pull[j];
        for (size_t j = 0; j < trail.pull.size(); ++j) sums[p].leak[j % trail.lv.size()] += trail.pull[j];
        if (layer.population.start.v) continue;
        for (int64_t m = 0; m < layer.size; ++m)
            for (int c = 0; c < layer.compartments; ++c)
                if (layer.compartment[m * layer.compartments + c].threshold <= 0) sums[p].reset[c * layer.padded + m] += trail.lv[c * layer.padded + m];
    }
}
