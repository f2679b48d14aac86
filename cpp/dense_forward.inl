// The sweep itself, see dense_forward.cpp.
#include "crossings.inl"

// One lane in double precision: spikes, refractory holds and peaks.
template <class T>
void look_closely(const Layer<T>& layer, Walk<T>& x, int l) {
    const Neuron& neuron = layer.neuron[x.block->first + l];
    const double begin = x.begin(), end = x.end(), told = x.told(x.n);
    State s{double(x.v[l]), double(x.i[l]), x.free[l]}, before = s;
    double first_spike = -1, since = begin;
    const bool held = before.free > begin;
    advance(neuron, s, begin, end, may_spike(layer, x, l), [&](double time) {
        if (time <= told) {
            before = s, since = time;
            return true;
        }
        if (first_spike < 0) first_spike = time;
        if (++x.fired[l] > layer.request().spike_limit) explode(layer, x, l);
        x.passage->spikes->push_back({time, int32_t(x.block->first + l), float(s.i)});
        return true;
    });
    if (layer.wants_peak()) {
        if (first_spike < 0)
            raise_peak(neuron, before, since, end, x.peak[l], told);
        else if (neuron.threshold > x.peak[l].value)
            x.peak[l] = {first_spike, neuron.threshold};
    }
    // unless that differs by more than rounding, the sweep's own values stay
    if (first_spike >= 0 || since > begin || held) x.next_v[l] = T(s.v), x.next_i[l] = T(s.i), x.free[l] = s.free;
    set_level(layer, x, l, end);
}

// The peak of a neuron that never spikes and is at `s` when interval n begins. (One copy: others would round in other ways.)
template <class T>
__attribute__((noinline)) void raise_peak_in(const Layer<T>& layer, Walk<T>& x, int l, size_t n, const State& s) {
    const Passage<T>& way = *x.passage;
    raise_peak(layer.neuron[x.block->first + l], s, way.time[n], way.time[n + 1], x.peak[l], x.told(n));
}

// Peaks of neurons that never spike: only a maximum inside the interval has to be solved for.
template <class T>
void raise_peaks(const Layer<T>& layer, Walk<T>& x, int l) {
    const bool turns = x.i[l] > x.v[l] && !(x.next_i[l] > x.next_v[l]);
    if (turns)
        raise_peak_in(layer, x, l, x.n, {double(x.v[l]), double(x.i[l])});
    else if (double(x.next_v[l]) > x.peak[l].value)
        x.peak[l] = {x.end(), double(x.next_v[l])};
    set_level(layer, x, l, x.end());
}

// Calls visit(lane) for those whose bound reached their level.
template <class T, class Visit>
SPIKELOOP_INLINE void for_each_close(const Walk<T>& x, int vectors, Visit&& visit) {
    for (int k = 0; k < vectors; ++k)
        for (uint32_t close = x.close[k]; close; close &= close - 1) visit(k * kLanes<T> + __builtin_ctz(close));
}

// They wait for others, with which their crossings are solved.
template <class T>
void wait(const Layer<T>& layer, Walk<T>& x, Waiting<T>& waiting, int vectors) {
    Pack& pack = waiting.pack;
    const int first = pack.count;
    for_each_close(x, vectors, [&](int l) {
        const int64_t m = x.block->first + l;
        pack.add(layer.neuron[m], layer.peak[m], {double(x.v[l]), double(x.i[l]), x.free[l]}, m);
    });
    const Doubles begin = all_of(x.begin()), end = all_of(x.end()), told = all_of(x.told(x.n));
    std::fill(pack.to + first, pack.to + pack.count, x.passage->spikes);
    for (int k = first; k < pack.count; k += kDoubles) store(pack.time + k, begin), store(pack.until + k, end), store(pack.told + k, told);
    waiting.walks.push_back({&x, pack.count});
}

// They are looked at one by one.
template <class T>
__attribute__((noinline)) void look(const Layer<T>& layer, Walk<T>& x, int vectors) {
    for_each_close(x, vectors, [&](int l) { layer.neurons().spiking ? look_closely(layer, x, l) : raise_peaks(layer, x, l); });
}

// The neurons that wait, at the ends of their intervals.
template <class T>
void settle(const Layer<T>& layer, Waiting<T>& waiting) {
    const Pack& pack = waiting.pack;
    advance(waiting.pack, layer.request().spike_limit);
    int k = 0;
    for (const auto& [walk, end_of_walk] : waiting.walks) {
        Walk<T>& x = *walk;
        const Passage<T>& way = *x.passage;
        const double begin = way.time[x.n - 1], end = way.time[x.n];  // it stands at the next interval already
        const double grow_v = layer.grown ? way.grow_m[x.n] : T(1), grow_i = layer.grown ? way.grow_s[x.n] : T(1);
        const int64_t first = x.block->first, limit = layer.request().spike_limit;
        for (; k < end_of_walk; ++k) {
            const int l = int(pack.unit[k] - first);
            const bool held = x.free[l] > begin;
            if (!pack.has_fired(k) && !held) continue;
            if ((x.fired[l] += pack.spikes[k]) > limit) explode(layer, x, l);
            const State s = pack.end(k);
            x.v[l] = T(s.v * grow_v), x.i[l] = T(s.i * grow_i), x.free[l] = s.free;
            if (held || s.free > end) set_level(layer, x, l, end);
        }
    }
    waiting.walks.clear();
}

template <class T>
__attribute__((noinline)) void take_samples(const Layer<T>& layer, Walk<T>& x) {
    const Sampling& sampling = layer.request().sampling;
    const Passage<T>& way = *x.passage;
    const double* times = sampling.times(way.sample);
    const bool last = x.n == way.row.size();
    for (; x.next_sample < sampling.count; ++x.next_sample) {
        const double time = times[x.next_sample];
        if (!(within(time, x.end()) || last)) return;
        for (const auto& [l, column] : x.sampled) {
            const int64_t m = x.block->first + l;
            const bool close = x.close[l / kLanes<T>] >> l % kLanes<T> & 1;
            const double v = membrane_at(layer.neuron[m], {double(x.v[l]), double(x.i[l]), x.free[l]}, x.begin(), time,
                                         close && may_spike(layer, x, l) ? layer.request().spike_limit : 0, x.told(x.n));
            sampling.value[(way.sample * sampling.count + x.next_sample) * sampling.units + column] = v + layer.neurons().leak[m];
        }
    }
}

// Where the last interval begins. What was grown is grown to the same number again.
template <class T>
__attribute__((noinline)) void keep_anchors(const Layer<T>& layer, const Walk<T>& x, double time) {
    const int64_t size = layer.neurons().size;
    const auto [grow_v, grow_i] = growth(layer, *x.passage, x.n);
    for (int l = x.block->skip; l < x.block->count; ++l)
        layer.request().to.keep(x.slot(l, size), time, {double(x.v[l]) / grow_v, double(x.i[l]) / grow_i, x.free[l]});
}

// A closer look at a long interval of neurons of one pair of time constants: bounds on pieces of it.
template <class T>
__attribute__((noinline)) bool look_again(const Layer<T>& layer, Walk<T>& x, int vectors) {
    static_assert(kPieces == kDoubles);
    using V = Vector<T>;
    Passage<T>& way = *x.passage;
    if (way.pieces_of[x.n] < 0) {
        const double whole = x.end() - x.begin(), a = layer.neuron[0].a, b = layer.neuron[0].b, peak_time = response_peak_time(a, b);
        const Doubles end = Doubles{1, 2, 3, 4, 5, 6, 7, 8} * (whole / kPieces), begin = end - whole / kPieces;
        const Rates rates{all_of(a), all_of(b), layer.ratio};
        const Flows f = flows(end, rates), before = flows(begin, rates);
        const Doubles top = end < peak_time ? f.g : (begin > peak_time ? before.g : all_of(layer.peak[0]));
        way.pieces_of[x.n] = int32_t(way.pieces.size());
        Pieces<T>& made = way.pieces.emplace_back();
        made.em[0] = 1;
        store_as(made.em + 1, f.em), store_as(made.top, top * (1 + kMargin));
    }
    const Pieces<T>& pieces = way.pieces[way.pieces_of[x.n]];
    uint32_t some = 0;
    for (int k = 0; k < vectors; ++k) {
        if (!x.close[k]) continue;
        const V v = load(x.v + k * kLanes<T>), i = load(x.i + k * kLanes<T>), rising = larger(i, V{});
        V bound = v;
        for (int p = 0; p < kPieces; ++p) bound = larger(bound, (v > 0 ? v * pieces.em[p] : v * pieces.em[p + 1]) + rising * pieces.top[p]);
        some |= x.close[k] = reaches<T>(bound, load(x.level + k * kLanes<T>));
    }
    return some != 0;
}

// Flows of neurons with time constants of their own, lane by lane.
template <class T>
struct OwnFlows {
    static constexpr int N = kLanes<T>;
    alignas(64) T em[N], es[N], g[N], top[N];
    alignas(64) double a[N], b[N], peak_time[N], peak[N];
};

template <class T>
void prepare(OwnFlows<T>& own, const Layer<T>& layer, const Block& block) {
    for (int l = 0; l < kLanes<T>; ++l) {
        const int64_t m = block.first + std::min(l, block.count - 1);
        own.a[l] = layer.neuron[m].a, own.b[l] = layer.neuron[m].b;
        own.peak_time[l] = response_peak_time(own.a[l], own.b[l]), own.peak[l] = layer.peak[m];
    }
}

template <class T>
SPIKELOOP_INLINE void set_flows(OwnFlows<T>& own, double dt) {
    for (int l = 0; l < kLanes<T>; l += kDoubles) {
        const Flows f = flows(all_of(dt), Rates{load(own.a + l), load(own.b + l)});
        const Doubles top = dt < load(own.peak_time + l) ? f.g : load(own.peak + l);
        store_as(own.em + l, f.em), store_as(own.es + l, f.es), store_as(own.g + l, f.g), store_as(own.top + l, top * (1 + kMargin));
    }
}

// The flows over all intervals for neurons of one pair of time constants.
template <class T>
void set_flows(Passage<T>& way, double a, double b, int ratio) {
    const double peak_time = response_peak_time(a, b), peak = response_peak(a, b);
    const Rates rates{all_of(a), all_of(b), ratio};
    const size_t count = way.row.size() + 1, room = (count + kDoubles - 1) / kDoubles * kDoubles;
    way.time.resize(room + 1, way.time[count]);
    way.em.resize(room), way.es.resize(room), way.g.resize(room), way.top.resize(room);
    for (size_t n = 0; n < count; n += kDoubles) {
        const Doubles dt = load(way.time.data() + n + 1) - load(way.time.data() + n);
        const Flows f = flows(dt, rates);
        const Doubles top = (dt < peak_time ? f.g : all_of(peak)) * (1 + kMargin);
        store_as(way.em.data() + n, f.em), store_as(way.es.data() + n, f.es), store_as(way.g.data() + n, f.g), store_as(way.top.data() + n, top);
    }
}

// Goes on with a walk until some of its neurons wait (false) or it has arrived (true).
template <class T, int W, bool OneTau, bool Spiking>
bool sweep(const Layer<T>& layer, Walk<T>& x, Waiting<T>& waiting) {
    constexpr int L = kLanes<T>;
    using V = Vector<T>;
    const Passage<T>& way = *x.passage;
    OwnFlows<T> own;
    if constexpr (!OneTau) prepare(own, layer, *x.block);
    const bool sampling = !x.sampled.empty();
    const size_t count = way.row.size() + 1, last = layer.request().to.time ? count - 1 : count;
    const int64_t first = x.block->first;
    const T *const em_of = way.em.data(), *const es_of = way.es.data(), *const g_of = way.g.data(), *const top_of = way.top.data();
    const T* const* const row_of = way.row.data();
    const double a_long_time = kLong / layer.neuron[0].b;
    const V a = V{} + T(layer.neuron[0].a), b = V{} + T(layer.neuron[0].b);
    V v[W], i[W];
    const auto pick_up = [&](const T* from_v, const T* from_i) {
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) v[k] = load(from_v + k * L), i[k] = load(from_i + k * L);
    };
    pick_up(x.v, x.i);
    for (size_t n = x.n; n < count; ++n) {
        if (n > 0) {
            const T* row = row_of[n - 1] + first;
            SPIKELOOP_OPAQUE(row);  // or each vector's place in it is kept in memory
            SPIKELOOP_UNROLL
            for (int k = 0; k < W; ++k) i[k] += load(row + k * L);
        }
        if constexpr (!OneTau) set_flows(own, way.time[n + 1] - way.time[n]);
        const auto flow_of = [&](const T* one, const T* each) {
            if constexpr (OneTau)
                return one[n] - V{};
            else
                return load(each);
        };
        const V em = flow_of(em_of, own.em), es = flow_of(es_of, own.es), g = flow_of(g_of, own.g), top = flow_of(top_of, own.top);
        const auto close = [&](const V& v, const V& i, int k) {
            return reaches<T>(larger(v, v * em) + positive<T>(i) * top, load(x.level + k * L));
        };
        uint32_t some = 0;
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) some |= close(v[k], i[k], k);
        if (__builtin_expect(some || sampling || n == last, 0)) {
            SPIKELOOP_UNROLL
            for (int k = 0; k < W; ++k) store(x.v + k * L, v[k]), store(x.i + k * L, i[k]);
            SPIKELOOP_FORGET();  // or the bounds are kept for here, in every interval
            for (int k = 0; k < W; ++k) x.close[k] = close(load(x.v + k * L), load(x.i + k * L), k);
            x.n = n;
            if (n == last) keep_anchors(layer, x, way.time[n]);
            if (OneTau && Spiking && some && !sampling && way.time[n + 1] - way.time[n] > a_long_time) some = look_again(layer, x, W);
            if (sampling) take_samples(layer, x);
            if (OneTau && Spiking && some) {  // a closer look, from both ends of the interval
                some = 0;
                SPIKELOOP_UNROLL
                for (int k = 0; k < W; ++k)
                    if (x.close[k]) some |= x.close[k] &= reaches<T>(highest(v[k], i[k], v[k] * em + i[k] * g, i[k] * es, a, b), load(x.level + k * L));
            }
            if (some && layer.together()) {
                wait(layer, x, waiting, W);
                SPIKELOOP_UNROLL
                for (int k = 0; k < W; ++k) store(x.v + k * L, v[k] * em + i[k] * g), store(x.i + k * L, i[k] * es);
                x.n = n + 1;
                return false;
            }
            if (some) {
                SPIKELOOP_UNROLL
                for (int k = 0; k < W; ++k) store(x.next_v + k * L, v[k] * em + i[k] * g), store(x.next_i + k * L, i[k] * es);
                look(layer, x, W);
                pick_up(x.next_v, x.next_i);
                continue;
            }
        }
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) v[k] = v[k] * em + i[k] * g, i[k] *= es;
    }
    SPIKELOOP_UNROLL
    for (int k = 0; k < W; ++k) store(x.v + k * L, v[k]), store(x.i + k * L, i[k]);
    x.n = count;
    return true;
}

// What grown states need of all intervals. Where one time constant is twice to four times the other, a flow between two lines of
// the grid is the quotient of two growths, which is close enough for single precision.
template <class T>
void set_growth(Passage<T>& way, const Layer<T>& layer) {
    const Neuron& n = layer.neuron[0];
    const double peak_time = response_peak_time(n.a, n.b), level = (layer.one_level ? layer.level[0] : 1.0) * (1 - kMargin);
    const Rates rates{all_of(n.a), all_of(n.b), layer.ratio};
    const size_t count = way.row.size() + 1, room = (count + kDoubles) / kDoubles * kDoubles;  // the end has a place, too
    way.time.resize(room + 1, way.time[count]), way.since.assign(way.time.begin(), way.time.begin() + room), way.far.assign(count, 0);
    bool some_far = false;
    if (!(way.time[0] >= 0 && way.time[count] < layer.span)) {
        double before = std::floor(way.time[0] / layer.span);
        for (size_t k = 0; k < room; ++k) {
            const double line = std::floor(way.time[k] / layer.span);
            way.since[k] -= line * layer.span;
            if (line != before && k <= count) way.far[k - 1] = some_far = true;
            before = line;
        }
    }
    struct Growths {
        std::vector<double> grow_m, grow_s, fade_m, fade_s;
    };
    Growths& all = own<Growths>();
    for (auto* x : {&all.grow_m, &all.grow_s, &all.fade_m, &all.fade_s}) x->resize(room + 1);
    for (auto* x : {&way.em, &way.es, &way.g, &way.top, &way.grow_m, &way.grow_s, &way.fade_m, &way.fade_s, &way.rise, &way.level}) x->resize(room);
    for (size_t k = 0; k < room; k += kDoubles) {
        const Flows fade = flows(load(way.since.data() + k), rates);
        const Doubles grow_m = 1.0 / fade.em, grow_s = 1.0 / fade.es;
        store(all.grow_m.data() + k, grow_m), store(all.grow_s.data() + k, grow_s);
        store(all.fade_m.data() + k, fade.em), store(all.fade_s.data() + k, fade.es);
        store_as(way.grow_m.data() + k, grow_m), store_as(way.grow_s.data() + k, grow_s);
        store_as(way.fade_m.data() + k, fade.em), store_as(way.fade_s.data() + k, fade.es);
        store_as(way.level.data() + k, level * grow_m);
    }
    for (auto* x : {&all.grow_m, &all.grow_s, &all.fade_m, &all.fade_s}) x->back() = 1;
    for (size_t k = 0; k < count; k += kDoubles) {
        const Doubles dt = load(way.time.data() + k + 1) - load(way.time.data() + k);
        const Doubles em = load(all.fade_m.data() + k + 1) * load(all.grow_m.data() + k), es = load(all.fade_s.data() + k + 1) * load(all.grow_s.data() + k);
        Flows f{em, es, rates.share * (em - es)};
        if (layer.ratio < 2) {
            f = flows(dt, rates);
        } else if (some_far) {  // each interval by itself: it must not matter what else is in the run
            Integers far{};
            for (size_t l = 0; l < kDoubles && k + l < count; ++l) far[l] = -int64_t(way.far[k + l]);
            const Flows across = flows(dt, rates);
            f = {far ? across.em : f.em, far ? across.es : f.es, far ? across.g : f.g};
        }
        const Doubles top = (dt < peak_time ? f.g : all_of(layer.peak[0])) * (1 + kMargin);
        store_as(way.em.data() + k, f.em), store_as(way.es.data() + k, f.es), store_as(way.g.data() + k, f.g), store_as(way.top.data() + k, top);
        store_as(way.rise.data() + k, f.g * load(all.grow_m.data() + k + 1) * load(all.fade_s.data() + k));
    }
}

// `sweep` of grown states.
template <int W, bool OneLevel>
bool sweep_grown(const Layer<float>& layer, Walk<float>& x, Waiting<float>& waiting) {
    constexpr int L = kLanes<float>;
    using V = Vector<float>;
    const Passage<float>& way = *x.passage;
    const bool sampling = !x.sampled.empty();
    const size_t count = way.row.size() + 1, last = layer.request().to.time ? count - 1 : count;
    const int64_t first = x.block->first;
    const float *const grow_s_of = way.grow_s.data(), *const rise_of = way.rise.data();
    const float* const level_of = way.level.data();
    const uint8_t* const far_of = way.far.data();
    const float* const* const row_of = way.row.data();
    const double a_long_time = kLong / layer.neuron[0].b;
    const bool knows_turns = layer.ratio >= 2;
    const V a = V{} + float(layer.neuron[0].a), b = V{} + float(layer.neuron[0].b);
    V u[W], j[W];
    SPIKELOOP_UNROLL
    for (int k = 0; k < W; ++k) u[k] = load(x.v + k * L), j[k] = load(x.i + k * L);
    const auto leave_at = [&](size_t n) {
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) store(x.v + k * L, u[k]), store(x.i + k * L, j[k]);
        x.n = n;
    };
    for (size_t n = x.n; n < count; ++n) {
        if (n > 0) {
            const float* row = row_of[n - 1] + first;
            SPIKELOOP_OPAQUE(row);  // or each vector's place in it is kept in memory
            const V grow = grow_s_of[n] - V{};
            SPIKELOOP_UNROLL
            for (int k = 0; k < W; ++k) j[k] += load(row + k * L) * grow;
        }
        const V rise = rise_of[n] - V{}, common = level_of[n] - V{};
        const auto level = [&](int k) { return OneLevel ? common : load(x.level + k * L) * common; };
        V next_u[W];
        Signs below = ~Signs{};
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) next_u[k] = u[k] + j[k] * rise, below &= Signs(next_u[k] - level(k));
        if (__builtin_expect(!all_negative(below) || sampling || far_of[n] || n == last, 0)) {
            x.n = n;
            if (n == last) leave_at(n), keep_anchors(layer, x, way.time[n]);
            const bool every = sampling || far_of[n];
            const V fade_m = way.fade_m[n] - V{}, fade_s = way.fade_s[n] - V{};
            const V em = way.em[n] - V{}, es = way.es[n] - V{}, g = way.g[n] - V{}, top = way.top[n] - V{};
            uint32_t some = 0;
            SPIKELOOP_UNROLL
            for (int k = 0; k < W; ++k) {
                x.close[k] = every ? ~0u : reaches<float>(next_u[k], level(k));
                if (!x.close[k]) continue;
                const V v = u[k] * fade_m, i = j[k] * fade_s;
                store(x.v + k * L, v), store(x.i + k * L, i);
                some |= x.close[k] &= reaches<float>(larger(v, v * em) + positive<float>(i) * top, load(x.level + k * L));
            }
            if (some && !knows_turns && !sampling && way.time[n + 1] - way.time[n] > a_long_time) some = look_again(layer, x, W);
            if (sampling) take_samples(layer, x);
            const auto next = [&](int k) {
                const V v = load(x.v + k * L), i = load(x.i + k * L);
                return std::pair<V, V>(v * em + i * g, i * es);
            };
            if (some) {  // a closer look, from both ends of the interval
                some = 0;
                for (int k = 0; k < W; ++k) {
                    if (!x.close[k]) continue;
                    const V v = load(x.v + k * L), i = load(x.i + k * L), level = load(x.level + k * L);
                    const auto [next_v, next_i] = next(k);
                    some |= x.close[k] &= knows_turns ? may_reach(v, i, next_v, way.em[n], layer.ratio, level)
                                                      : reaches<float>(highest(v, i, next_v, next_i, a, b), level);
                }
            }
            if (far_of[n]) {
                const V grow_m = way.grow_m[n + 1] - V{}, grow_s = way.grow_s[n + 1] - V{};
                for (int k = 0; k < W; ++k) {
                    const auto [next_v, next_i] = next(k);
                    next_u[k] = next_v * grow_m, j[k] = next_i * grow_s;
                }
            }
            if (some) {
                wait(layer, x, waiting, W);
                SPIKELOOP_UNROLL
                for (int k = 0; k < W; ++k) u[k] = next_u[k];
                leave_at(n + 1);
                return false;
            }
        }
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) u[k] = next_u[k];
    }
    leave_at(count);
    return true;
}

// The highest V so far of a vector of neurons that never spike: where an interval ends, or where it turns inside one.
template <class T>
struct Highest {
    alignas(64) T value[kLanes<T>], end[kLanes<T>];  // rounded down; of which interval it is the end, or -1: kept in `peak`
};

template <class T>
void keep_highest(Walk<T>& x, const Highest<T>& h, int l) {
    if (h.end[l] >= 0) x.peak[l] = {x.passage->time[size_t(h.end[l]) + 1], double(h.value[l])};
}

template <class T>
void set_highest(const Walk<T>& x, Highest<T>& h, int l) {
    const T value = T(x.peak[l].value);
    h.value[l] = double(value) > x.peak[l].value ? std::nextafter(value, -std::numeric_limits<T>::infinity()) : value, h.end[l] = T(-1);
}

// `sweep` of at most N neurons with one pair of time constants that never spike, where nothing but peaks is asked for.
template <class T, int N>
bool sweep_peaks(const Layer<T>& layer, Walk<T>& x) {
    typedef T V __attribute__((vector_size(N * sizeof(T))));
    const auto load = [](const T* from) {
        V v;
        std::memcpy(&v, from, sizeof v);
        return v;
    };
    const auto store = [](T* to, const V& v) { std::memcpy(to, &v, sizeof v); };
    const Passage<T>& way = *x.passage;
    const size_t count = way.row.size() + 1;
    const int64_t first = x.block->first;
    const T *const em_of = way.em.data(), *const es_of = way.es.data(), *const g_of = way.g.data(), *const top_of = way.top.data();
    const T* const* const row_of = way.row.data();
    Highest<T> h;
    std::fill_n(h.value, kLanes<T>, std::numeric_limits<T>::infinity()), std::fill_n(h.end, kLanes<T>, T(-1));
    for (int l = x.block->skip; l < x.block->count; ++l) set_highest(x, h, l);
    V v = load(x.v), i = load(x.i), value = load(h.value), end = load(h.end);
    for (size_t n = 0; n < count; ++n) {
        if (n > 0) i += load(row_of[n - 1] + first);
        const T em = em_of[n], es = es_of[n], g = g_of[n], top = top_of[n];
        const V next_v = v * em + i * g, next_i = i * es;
        const auto turns = (i > v) & ~(next_i > next_v);
        const V bound = larger(v, v * em) + larger(i, V{}) * top, level = value - T(kMargin) * larger(value, -value);
        for (uint32_t close = bits_of(turns & (bound >= level)); close; close &= close - 1) {
            const int l = __builtin_ctz(close);
            store(h.value, value), store(h.end, end);
            keep_highest(x, h, l);
            raise_peak_in(layer, x, l, n, {double(v[l]), double(i[l])});
            set_highest(x, h, l);
            value = load(h.value), end = load(h.end);
        }
        const auto higher = (next_v > value) & ~turns;  // of those that turn the highest is known, but rounded down
        value = higher ? next_v : value, end = higher ? T(n) - V{} : end;
        v = next_v, i = next_i;
    }
    store(x.v, v), store(x.i, i), store(h.value, value), store(h.end, end);
    for (int l = x.block->skip; l < x.block->count; ++l) keep_highest(x, h, l);
    x.n = count;
    return true;
}

template <class T, int W>
bool sweep_together(const Layer<T>& layer, Walk<T>& x, Waiting<T>& waiting) {
    if constexpr (std::is_same_v<T, float>)
        if (layer.grown) return layer.one_level ? sweep_grown<W, true>(layer, x, waiting) : sweep_grown<W, false>(layer, x, waiting);
    return sweep<T, W, true, true>(layer, x, waiting);
}

template <class T>
bool go_on(const Layer<T>& layer, Walk<T>& x, Waiting<T>& waiting) {
    const bool spiking = layer.neurons().spiking;
    if (!layer.one_tau) return spiking ? sweep<T, 1, false, true>(layer, x, waiting) : sweep<T, 1, false, false>(layer, x, waiting);
    if (!spiking && layer.only_peaks() && x.sampled.empty() && x.passage->row.size() < 1 << 24)
        return x.block->count <= 4 ? sweep_peaks<T, 4>(layer, x) : x.block->count <= 8 ? sweep_peaks<T, 8>(layer, x) : sweep_peaks<T, kLanes<T>>(layer, x);
    if (!spiking) return sweep<T, 1, true, false>(layer, x, waiting);
    if (!layer.together()) return sweep<T, 1, true, true>(layer, x, waiting);
    switch (x.block->vectors) {
        case 8: return sweep_together<T, 8>(layer, x, waiting);
        case 6: return sweep_together<T, 6>(layer, x, waiting);
        case 4: return sweep_together<T, 4>(layer, x, waiting);
        case 2: return sweep_together<T, 2>(layer, x, waiting);
        default: return sweep_together<T, 1>(layer, x, waiting);
    }
}
