// The sweep itself, see disturbed.cpp.
#include "crossings.inl"

// ---- the table of flows -------------------------------------------------------------------------------------------

// Flows over multiples 0 .. count - 1 of `unit`, and in `unit` that over `count` of them.
inline void fill(std::vector<BlockFlows>& flows, int64_t first, int count, Flows& unit, int lane) {
    Flows now{all_of(1), all_of(1), all_of(0)};
    for (int k = 0; k < count; ++k) {
        BlockFlows& row = flows[first + k];
        store_as(row.em + lane, now.em), store_as(row.es + lane, now.es), store_as(row.g + lane, now.g);
        now.g = unit.em * now.g + unit.g * now.es;
        now.em *= unit.em, now.es *= unit.es;
    }
    unit = now;
}

inline void fill(FlowTable& table, double tick) {
    constexpr int rows = FlowTable::kFine + FlowTable::kCoarse;
    table.tick = tick, table.per_tick = 1 / tick;
    table.flows.resize(table.a.size() / kBlock * rows);
    table.single_a.assign(table.a.begin(), table.a.end()), table.single_b.assign(table.b.begin(), table.b.end());
    for (size_t m = 0; m < table.a.size(); m += kDoubles) {
        const int64_t first = int64_t(m / kBlock) * rows;
        Flows unit = flows(all_of(tick), Rates{load(table.a.data() + m), load(table.b.data() + m)});
        fill(table.flows, first, FlowTable::kFine, unit, int(m % kBlock));
        fill(table.flows, first + FlowTable::kFine, FlowTable::kCoarse, unit, int(m % kBlock));
    }
}

// Those over the sum of two times. W: vectors of the block that are looked at.
template <int W, class Later>
SPIKELOOP_INLINE void compose(BlockFlows& out, const BlockFlows& first, Later&& later) {
    SPIKELOOP_UNROLL
    for (int l = 0; l < W * kLanes<float>; l += kLanes<float>) {
        const auto es = load(first.es + l);
        const auto [em2, es2, g2] = later(l);
        store(out.g + l, em2 * load(first.g + l) + g2 * es);
        store(out.em + l, em2 * load(first.em + l)), store(out.es + l, es * es2);
    }
}

// Over less than a tick, by their series.
SPIKELOOP_INLINE std::array<Vector<float>, 3> short_flows(const Vector<float>& x, const Vector<float>& y) {
    const auto em = 1 - x * (1 - x * (0.5f - x * (1.0f / 6))), es = 1 - y * (1 - y * (0.5f - y * (1.0f / 6)));
    return {em, es, x * (1 - 0.5f * (x + y) + (x * x + x * y + y * y) * (1.0f / 6))};
}

// Over any time.
template <int W>
__attribute__((noinline)) void set_flows(BlockFlows& out, const FlowTable& table, int64_t block, double dt) {
    for (int l = 0; l < W * kLanes<float>; l += kDoubles) {
        const double *a = table.a.data() + block * kBlock + l, *b = table.b.data() + block * kBlock + l;
        const Flows f = flows(all_of(dt), Rates{load(a), load(b)});
        store_as(out.em + l, f.em), store_as(out.es + l, f.es), store_as(out.g + l, f.g);
    }
}

// Over an interval of so many ticks, or over `dt`; `made`: where they are if the table has not got them.
template <int W>
SPIKELOOP_INLINE const BlockFlows& flows_over(const FlowTable& table, int64_t block, Ticks ticks, double dt, BlockFlows& made) {
    constexpr int kFine = FlowTable::kFine;
    if (ticks.whole < 0) {
        set_flows<W>(made, table, block, dt);
        return made;
    }
    const BlockFlows& fine = table.fine(block, ticks.whole % kFine);
    const BlockFlows* found = &fine;
    if (ticks.whole >= kFine) {
        const BlockFlows& coarse = table.coarse(block, ticks.whole / kFine);
        compose<W>(made, fine, [&](int l) { return std::array{load(coarse.em + l), load(coarse.es + l), load(coarse.g + l)}; });
        found = &made;
    }
    if (ticks.rest != 0) {
        const float *a = table.single_a.data() + block * kBlock, *b = table.single_b.data() + block * kBlock;
        compose<W>(made, *found, [&](int l) { return short_flows(load(a + l) * ticks.rest, load(b + l) * ticks.rest); });
        found = &made;
    }
    return *found;
}

// ---- close looks --------------------------------------------------------------------------------------------------

// Samples, but of the lanes that are looked at one by one.
template <int W>
__attribute__((noinline)) void take_samples(const Layer& layer, Walk& x, Range range) {
    constexpr int L = kLanes<float>;
    const Sampling& sampling = layer.request.sampling;
    const double* times = sampling.times(x.passage->sample);
    BlockFlows made;
    alignas(64) float membrane[W * L];
    for (int64_t k = range.first; k < range.last; ++k) {
        const double dt = times[k] - x.begin();
        const BlockFlows& f = flows_over<W>(layer.table, x.block, layer.table.ticks(dt), dt, made);
        for (int l = 0; l < W * L; l += L) store(membrane + l, load(x.v + l) * load(f.em + l) + load(x.i + l) * load(f.g + l));
        double* row = sampling.value + (x.passage->sample * sampling.count + k) * sampling.units;
        for (const auto& [l, column] : layer.sampled[x.block]) {
            const int64_t m = x.first() + l;
            if (!x.is_close(l))
                row[column] = double(membrane[l]) + (layer.seen[m] == Seen::at_once ? lane_of(layer, x, l).seen(times[k]) : 0) + layer.neurons.leak[m];
            else if (!layer.alone[m])
                row[column] = layer.neurons.leak[m] + membrane_at(layer.neuron[m], {double(x.v[l]), double(x.i[l]), lane_of(layer, x, l).free},
                                                                  x.begin(), times[k], layer.request.spike_limit);
        }
    }
}

// Which of the lanes `close` from l on may reach their thresholds until `end`, with membranes up to `top`? As `stays_below`
// (noise.hpp) has it; one bit a lane.
SPIKELOOP_INLINE uint32_t may_reach(const Layer& layer, const Walk& x, int l, uint32_t close, const Vector<float>& top,
                                    const Vector<float>& a, double end) {
    using V = Vector<float>;
    const V level = load(x.level + l);
    close &= reaches<float>(top, level);
    if (!close) return 0;
    const V reach = load(layer.reach.data() + x.first() + l), noise = load(x.noise + l);
    const V since = a * (float(end) - load(x.seen + l)), left = noise > 0 ? noise : noise * larger(1 - since, V{});
    const V room = level + reach - top - left, far = larger(2 * since, V{});  // who is held was seen in the future
    return close & reaches<float>(reach * reach * (far < 1 ? far : V{} + 1), room > 0 ? room * room : V{});
}

// Only lanes stay close whose highest membrane over `dt`, looked at in pieces, reaches their level.
template <int W>
uint32_t look_again(const Layer& layer, Walk& x, double dt) {
    using V = Vector<float>;
    BlockFlows made;
    const double piece = dt / kPieces;
    const BlockFlows& f = flows_over<W>(layer.table, x.block, layer.table.ticks(piece), piece, made);
    uint32_t some = 0;
    for (int k = 0; k < W; ++k) {
        if (!x.close[k]) continue;
        const int l = k * kLanes<float>;
        const V a = load(layer.table.single_a.data() + x.first() + l), b = load(layer.table.single_b.data() + x.first() + l);
        V v = load(x.v + l), i = load(x.i + l), top = v;
        for (int p = 1; p < kPieces; ++p) {
            const V next_v = v * load(f.em + l) + i * load(f.g + l), next_i = i * load(f.es + l);
            top = larger(top, highest(v, i, next_v, next_i, a, b)), v = next_v, i = next_i;
        }
        top = larger(top, highest(v, i, load(x.next_v + l), load(x.next_i + l), a, b));
        some |= x.close[k] = may_reach(layer, x, l, x.close[k], top, a, x.end());
    }
    return some;
}

// Lanes whose bound reached their level: they wait, but for those where only the threshold is noisy. True: some wait.
template <int W>
bool look(const Layer& layer, Walk& x, Waiting& waiting, Range range) {
    const size_t known = waiting.count();
    for (int k = 0; k < W; ++k)
        for (uint32_t close = x.close[k]; close; close &= close - 1) {
            const int l = k * kLanes<float> + __builtin_ctz(close);
            const int64_t m = x.first() + l;
            Lane& lane = lane_of(layer, x, l);
            State s{double(x.v[l]), double(x.i[l]), lane.free};
            if (!layer.alone[m]) {
                waiting.lane[waiting.pack.count] = {&x, l};
                waiting.pack.add(layer.neuron[m], layer.stride[m].peak, s, x.begin(), x.end(), lane.sends ? x.passage->spikes : nullptr, m);
                continue;
            }
            Samples samples = samples_of(layer, x, l, range);
            if (lane.noise.rms > 0) {
                waiting.noisy.push_back({&x, l, x.v[l], x.i[l], samples});
                continue;
            }
            if (lane.follow(s, x.begin(), x.end(), *x.passage->spikes, samples)) x.next_v[l] = float(s.v), x.next_i[l] = float(s.i);
            x.stand(l, x.end());
        }
    return waiting.count() > known;
}

#include "noisy.inl"

// The neurons that wait, at the ends of their intervals.
inline void settle(const Layer& layer, Waiting& waiting, Watch& watch) {
    const int count = waiting.pack.count;
    advance(layer, waiting.noisy, watch);
    advance(waiting.pack, layer.request.spike_limit);
    for (int k = 0; k < count; ++k) {
        const auto [walk, l] = waiting.lane[k];
        Walk& x = *walk;
        Lane& lane = x.lane[l];
        const double begin = x.passage->time[x.n - 1], end = x.passage->time[x.n];  // it stands at the next interval already
        const bool was_held = lane.free > begin;
        lane.count_spikes(waiting.pack.spikes[k]);
        if (waiting.pack.spikes[k] > 0 || was_held) {
            const State s = waiting.pack.end(k);
            x.v[l] = float(s.v), x.i[l] = float(s.i), lane.free = s.free;
        }
        x.level[l] = lane.level(end);
    }
}

// ---- the sweep ----------------------------------------------------------------------------------------------------

// Goes on with a walk until some of its neurons wait (false) or it has arrived (true). No membrane reaches its level within an
// interval if V exp(t / tau_mem) is below it at both ends, for that rises all the time (I > 0), or falls. Divided by its growth:
// neither em V at the beginning nor V at the end reaches em times the level; nor the level, where that is below zero.
template <int W, bool Jumps>
bool sweep(const Layer& layer, Walk& x, Waiting& waiting) {
    constexpr int L = kLanes<float>;
    using V = Vector<float>;
    const Passage& way = *x.passage;
    const Sampling& sampling = layer.request.sampling;
    const size_t count = way.ticks.size();
    const double* samples = layer.sampled[x.block].empty() ? nullptr : sampling.times(way.sample);
    const BlockRow* rows = layer.rows(x.block);
    V v[W], i[W], floor[W], most[W], level[W];
    const auto stand = [&](const float* from_v, const float* from_i) {
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) v[k] = load(from_v + k * L), i[k] = load(from_i + k * L), level[k] = load(x.level + k * L);
    };
    stand(x.v, x.i);
    SPIKELOOP_UNROLL
    for (int k = 0; k < W; ++k) {
        floor[k] = load(layer.floor.data() + x.first() + k * L), most[k] = load(layer.most.data() + x.first() + k * L);
    }
    for (size_t n = x.n; n < count; ++n) {
        if (n > 0) {
            const float* row = rows[way.row[n - 1]].weight;
            SPIKELOOP_UNROLL
            for (int k = 0; k < W; ++k) {
                i[k] += load(row + k * L);
                if constexpr (Jumps) i[k] = larger(smaller(i[k], most[k]), -most[k]), v[k] = larger(v[k], floor[k]);
            }
        }
        const double dt = way.time[n + 1] - way.time[n];
        const BlockFlows& f = flows_over<W>(layer.table, x.block, way.ticks[n], dt, x.flows);
        V next_v[W];
        uint32_t close[W], some = 0;
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) {
            V em = load(f.em + k * L);
            hold(em);
            V left = v[k] * em;
            hold(left);  // or it is the compiler's choice which of both products is rounded
            next_v[k] = left + i[k] * load(f.g + k * L);
            some |= close[k] = reaches<float>(larger(left, next_v[k]), smaller(level[k] * em, level[k]));
        }
        const bool sees = samples && x.next_sample < sampling.count && (samples[x.next_sample] <= way.time[n + 1]);
        if (__builtin_expect(some, 0)) {  // a closer look, from both ends of the interval
            const float* top = dt < layer.quickest ? f.g : layer.top.data() + x.first();
            some = 0;
            SPIKELOOP_UNROLL
            for (int k = 0; k < W; ++k) {
                if (!close[k]) continue;
                const int l = k * L;
                const V bound = larger(v[k], v[k] * load(f.em + l)) + positive<float>(i[k]) * load(top + l);
                if (!(close[k] &= reaches<float>(bound, level[k]))) continue;
                const V a = load(layer.table.single_a.data() + x.first() + l), b = load(layer.table.single_b.data() + x.first() + l);
                const V most_of_v = highest(v[k], i[k], next_v[k], i[k] * load(f.es + l), a, b);
                some |= close[k] = may_reach(layer, x, l, close[k], most_of_v, a, way.time[n + 1]);
            }
        }
        if (__builtin_expect(some || sees, 0)) {
            x.n = n;
            SPIKELOOP_UNROLL
            for (int k = 0; k < W; ++k) {
                x.close[k] = close[k], store(x.v + k * L, v[k]), store(x.i + k * L, i[k]);
                store(x.next_v + k * L, next_v[k]), store(x.next_i + k * L, i[k] * load(f.es + k * L));
            }
            if (some && dt > layer.long_time) some = look_again<W>(layer, x, dt);
            if (some || sees) {
                Range range{x.next_sample, x.next_sample};
                while (sees && range.last < sampling.count && samples[range.last] <= way.time[n + 1]) ++range.last;
                x.next_sample = range.last;
                if (sees) take_samples<W>(layer, x, range);
                if (some && look<W>(layer, x, waiting, range)) {
                    std::memcpy(x.v, x.next_v, sizeof v), std::memcpy(x.i, x.next_i, sizeof i);
                    x.n = n + 1;
                    return false;
                }
            }
            stand(x.next_v, x.next_i);
            continue;
        }
        SPIKELOOP_UNROLL
        for (int k = 0; k < W; ++k) v[k] = next_v[k], i[k] *= load(f.es + k * L);
    }
    return true;
}

template <bool Jumps>
bool go_on(const Layer& layer, Walk& x, Waiting& waiting) {
    const int64_t left = layer.neurons.size - x.first();
    if (left <= kLanes<float>) return sweep<1, Jumps>(layer, x, waiting);
    if (left <= 2 * kLanes<float>) return sweep<2, Jumps>(layer, x, waiting);
    return sweep<kBlockVectors, Jumps>(layer, x, waiting);
}

inline bool go_on(const Layer& layer, Walk& x, Waiting& waiting) {
    return layer.jumps ? go_on<true>(layer, x, waiting) : go_on<false>(layer, x, waiting);
}
