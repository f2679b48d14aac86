// What arrives within a step, as sums of weight x^k, x the share of the step that is left, and of positive weights.

// Rows of a dense link, `count` events from `first` on, into the sums of weight x^k.
template <class T>
void accumulate(const SteppedLink<T>& link, int64_t size, const SteppedEvent* first, int64_t count, double end, double h, T* sums, T* raising,
                int64_t padded, SteppedRange range) {
    constexpr int L = kLanes<T>;
    using V = Vector<T>;
    for (int64_t l = range.first; l < std::min(range.last, size); l += L) {
        const int some = int(std::min<int64_t>(L, size - l));
        V up = load(raising + l), m0 = load(sums + l), m1 = load(sums + padded + l), m2 = load(sums + 2 * padded + l), m3 = load(sums + 3 * padded + l);
        for (int64_t e = 0; e < count; ++e) {
            const T* from = link.weight + int64_t(first[e].unit) * size + l;
            const V row = some == L ? load(from) : load_some(from, some);
            const double x = (end - first[e].time) / h, y = first[e].amplitude;
            const V whole = row * T(y);
            up += larger(whole, V{}), m0 += whole, m1 += row * T(y * x), m2 += row * T(y * x * x), m3 += row * T(y * x * x * x);
        }
        store(raising + l, up), store(sums + l, m0), store(sums + padded + l, m1), store(sums + 2 * padded + l, m2), store(sums + 3 * padded + l, m3);
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
        T *sums = way.arriving.data() + 4 * slot * layer.padded, *raising = way.raising.data() + slot * layer.padded;
        way.touched[slot] = 1;
        int64_t last = e + 1;
        if (!link.unit) {
            while (last < count && events[last].link == number) ++last;
            accumulate(link, layer.size, events + e, last - e, end, h, sums, raising, layer.padded, range);
        } else {
            const SteppedEvent& event = events[e];
            const double x = (end - event.time) / h, y = event.amplitude;
            const T p0 = T(y), p1 = T(y * x), p2 = T(y * x * x), p3 = T(y * x * x * x);
            const int64_t from = event.synapse >= 0 ? event.synapse : link.begin[event.unit];
            const int64_t to = event.synapse >= 0 ? event.synapse + 1 : link.begin[event.unit + 1];
            for (int64_t s = from; s < to; ++s) {
                const T weight = link.weight[link.index ? link.index[s] : s];
                T* at = sums + link.unit[s];
                raising[link.unit[s]] += std::max(weight * p0, T(0));
                at[0] += weight * p0, at[layer.padded] += weight * p1, at[2 * layer.padded] += weight * p2, at[3 * layer.padded] += weight * p3;
            }
        }
        e = last;
    }
}
