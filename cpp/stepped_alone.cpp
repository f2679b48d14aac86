// Neurons that are looked at one by one, in double precision: crossings, noise, samples; see stepped_march.hpp.
#include "stepped_march.hpp"

namespace spikeloop {
namespace {

constexpr uint64_t kThresholdKey = 0x9fb21c651e98df25ull, kSamplingKey = 0x5851f42d4c957f2dull;

}  // namespace

template <class T>
void SteppedSample<T>::of_lane(int p, int64_t m, int64_t k, const SteppedEvent* events, int64_t count) {
    const SteppedLayer<T>& layer = stage.layers[p];
    const double began = start_of(k);
    lane_.clear();
    for (int64_t e = 0; e < count; ++e) {
        const SteppedLink<T>& link = stage.links[events[e].link];
        if (link.target != p) continue;
        double weight = 0;
        if (!link.unit) {
            weight = double(link.weight[int64_t(events[e].unit) * layer.size + m]);
        } else {
            const int64_t from = events[e].synapse >= 0 ? events[e].synapse : link.begin[events[e].unit];
            const int64_t to = events[e].synapse >= 0 ? events[e].synapse + 1 : link.begin[events[e].unit + 1];
            for (int64_t s = from; s < to; ++s)
                if (link.unit[s] == m) weight += double(link.weight[link.index ? link.index[s] : s]);
        }
        if (weight != 0)
            lane_.push_back({std::min(events[e].time - began, h()), weight * events[e].amplitude, layer.slot_at[link.receptor * layer.compartments + link.compartment], link.compartment});
    }
    const SteppedPopulation<T>& population = layer.population;
    const size_t arrivals = lane_.size();
    for (size_t n = 0; n < population.currents.size(); ++n) {
        const SteppedCurrent& current = population.currents[n];
        const double* row = current.value + (current.per_sample ? number * current.count * layer.size : 0) + m;
        for (size_t j = ways[p].next_current[n]; j < size_t(current.count) && current.time[j] < start_of(k + 1); ++j)
            lane_.push_back({std::min(current.time[j] - began, h()), row[j * layer.size], -1, current.compartment});
    }
    if (lane_.size() > arrivals)
        std::stable_sort(lane_.begin(), lane_.end(), [](const SteppedArrival& x, const SteppedArrival& y) { return x.at < y.at; });
}

// ---- one neuron ---------------------------------------------------------------------------------------------------

template <class T>
template <class Walk>
void SteppedSample<T>::load(int p, int64_t m, int64_t k, Walk& walk) const {
    const SteppedLayer<T>& layer = stage.layers[p];
    const SteppedWay<T>& way = ways[p];
    for (int c = 0; c < layer.compartments; ++c) {
        const int64_t at = c * layer.padded + m;
        walk.v[c] = double(way.v[at]), walk.w[c] = double(way.w[at]), walk.current[c] = double(way.j[at]);
        walk.held[c] = way.free[at] > start_of(k) ? way.free[at] - start_of(k) : 0.0;
        walk.shift[c] = way.shift[at], walk.noise0[c] = walk.noise1[c] = way.noise[at];
    }
    for (int s = 0; s < layer.slots; ++s) walk.i[s] = double(way.i[s * layer.padded + m]);
}

template <class T>
template <class Walk>
void SteppedSample<T>::store(int p, int64_t m, int64_t k, const Walk& walk) {
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWay<T>& way = ways[p];
    for (int c = 0; c < layer.compartments; ++c) {
        const int64_t at = c * layer.padded + m;
        way.v[at] = T(walk.v[c]), way.w[at] = T(walk.w[c]), way.noise[at] = walk.noise(c);
        way.open[at] = T(way.free[at] > start_of(k + 1) ? 0 : 1);
    }
    for (int s = 0; s < layer.slots; ++s) way.i[s * layer.padded + m] = T(walk.i[s]);
    if (!way.peak.empty() && walk.peak > double(way.peak[m])) way.peak[m] = T(walk.peak), way.peak_time[m] = start_of(k) + walk.peak_at;
}

template <class T>
double SteppedSample<T>::drawn_shift(int p, int64_t m, int c, int64_t fired) const {
    const SteppedLayer<T>& layer = stage.layers[p];
    const double rms = layer.compartment[m * layer.compartments + c].threshold_noise;
    return rms > 0 ? rms * Stream{keyed(ways[p].stream[c * layer.padded + m] ^ kThresholdKey, uint64_t(fired))}.normal() : 0.0;
}

// The crossing as it changes the neuron alone: for samples, which are looks ahead.
template <class T>
template <class Walk>
void SteppedSample<T>::fire_unseen(int p, int64_t m, int c, int64_t k, Walk& walk) const {
    const double refractory = stage.layers[p].compartment[m * stage.layers[p].compartments + c].refractory;
    walk.jump(c, spike_time(k, walk.now()) + refractory - start_of(k));
}

template <class T>
template <class Walk>
void SteppedSample<T>::fire(int p, int64_t m, int c, int64_t k, Walk& walk) {
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWay<T>& way = ways[p];
    const int64_t here = c * layer.padded + m;
    const SteppedCompartment& x = layer.compartment[m * layer.compartments + c];
    const double time = spike_time(k, walk.now());
    fire_unseen(p, m, c, k, walk);
    way.free[here] = time + x.refractory;
    const int64_t* before = layer.population.start.fired;
    const int64_t known = before ? before[(number * layer.compartments + c) * layer.size + m] : 0;
    if (++way.fired[here] - known > stage.run.spike_limit) throw Explosion(number, m, p);
    if (x.threshold_noise > 0) {
        walk.shift[c] = way.shift[here] = drawn_shift(p, m, c, way.fired[here]);
        way.level[here] = T(x.threshold + way.shift[here]);
    }
    if (c == layer.cells.output) emit(p, m, time);
}

template <class T>
double SteppedSample<T>::spike_time(int64_t k, double at) const {
    return std::clamp(start_of(k) + at, start_of(k), std::nextafter(start_of(k + 1), 0.0));
}

template <class T>
void SteppedSample<T>::look_for_releases(int p, int64_t vector, double now) {
    constexpr int64_t kLanes = 64 / sizeof(T);
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWay<T>& way = ways[p];
    double soonest = kInfinity;
    for (int c = 0; c < layer.compartments; ++c)
        for (int64_t at = c * layer.padded + vector * kLanes, last = at + kLanes; at < last; ++at)
            if (way.free[at] > now) soonest = std::min(soonest, way.free[at]);
    way.soonest[vector] = soonest;
}

template <class T>
void SteppedSample<T>::go_alone(int p, int64_t m, int64_t k, const SteppedEvent* events, int64_t count) {
    stage.layers[p].compartments == 1 ? alone<1>(p, m, k, events, count) : alone<0>(p, m, k, events, count);
}

template <class T>
template <int Compartments>
void SteppedSample<T>::alone(int p, int64_t m, int64_t k, const SteppedEvent* events, int64_t count) {
    of_lane(p, m, k, events, count);
    SteppedWalk<Compartments> walk(stage.layers[p].unit[m], h());
    load(p, m, k, walk);
    const auto spike = [&](SteppedWalk<Compartments>& at, int c) { fire(p, m, c, k, at); };
    go(p, m, k, walk, h(), spike);
    store(p, m, k, walk);
}

// A neuron up to `end` of step k.
template <class T>
template <class Walk, class OnSpike>
void SteppedSample<T>::go(int p, int64_t m, int64_t k, Walk& walk, double end, OnSpike&& spike) {
    if (stage.layers[p].noisy && is_noisy(p, m)) return go_noisy(p, m, k, walk, end, spike);
    walk(end, lane_, [&](int c, double) {
        spike(walk, c);
        return true;
    });
}

template <class T>
bool SteppedSample<T>::is_noisy(int p, int64_t m) const {
    const SteppedLayer<T>& layer = stage.layers[p];
    for (int c = 0; c < layer.compartments; ++c)
        if (layer.rms[c * layer.padded + m] > 0) return true;
    return false;
}

// The same with noise on membranes, from one crossing or release to the next: over each stretch the noise is a line, about which
// a Brownian bridge decides whether, and when, the threshold is met.
template <class T>
template <class Walk, class OnSpike>
void SteppedSample<T>::go_noisy(int p, int64_t m, int64_t k, Walk& walk, double end, OnSpike&& spike) {
    const SteppedLayer<T>& layer = stage.layers[p];
    const int count = layer.compartments;
    const SteppedCompartment* cell = layer.compartment.data() + m * count;
    Stream random[kMaxCompartments];
    double x[kMaxCompartments], to[kMaxCompartments];
    for (int c = 0; c < count; ++c) {
        random[c].key = keyed(ways[p].stream[c * layer.padded + m], uint64_t(k));
        x[c] = walk.held[c] > walk.now() ? 0.0 : ways[p].noise[c * layer.padded + m];
    }
    while (walk.now() < end) {
        const double from = walk.now();
        double until = h();
        for (int c = 0; c < count; ++c)
            if (walk.held[c] > from) until = std::min(until, walk.held[c]);
        const double length = until - from;
        for (int c = 0; c < count; ++c) {
            const bool free = walk.held[c] <= from && cell[c].noise > 0;
            const double lost = -std::expm1(-2 * length * cell[c].rate);
            to[c] = free ? x[c] * std::exp(-length * cell[c].rate) + cell[c].noise * std::sqrt(lost) * random[c].normal() : 0.0;
            if (!free) x[c] = 0;
            walk.set_noise(c, x[c], to[c], until);
        }
        Walk ahead = walk;
        int first = -1;
        ahead(until, lane_, [&](int c, double) {
            first = c;
            return false;
        });
        double when = ahead.now();
        const double reached = when - from;
        double best = kInfinity;
        int who = -1;
        for (int c = 0; c < count && reached > 0; ++c) {
            if (!(cell[c].noise > 0) || walk.held[c] > from || !(cell[c].threshold < kInfinity)) continue;
            const double level = cell[c].threshold + walk.shift[c], below = level - walk.v[c] - x[c];
            if (below <= 0) continue;
            double left = level - ahead.v[c] - ahead.noise(c), whole = reached;
            if (c == first) left = -below * (until - from - reached) / reached, whole = until - from;
            const double wait = bridge_crossing(below, left, 2 * cell[c].noise * cell[c].noise * cell[c].rate * whole, whole, random[c]);
            if (wait >= 0 && (c == first || from + wait < when)) best = std::min(best, from + wait), who = best == from + wait ? c : who;
        }
        if (first >= 0 && !(cell[first].noise > 0) && when <= best) best = when, who = first;
        when = best, first = who;
        if (when > end) first = -1;
        const double stop = std::min(when, end), share = length > 0 ? (stop - from) / length : 1.0;
        walk.crosses = false;
        walk(stop, lane_, [](int, double) { return true; });
        walk.crosses = true;
        for (int c = 0; c < count; ++c) x[c] += (to[c] - x[c]) * share;
        if (first >= 0) spike(walk, first), x[first] = 0;
        for (int c = 0; c < count; ++c) walk.set_noise(c, x[c], x[c], h());
    }
}

template <class T>
void SteppedSample<T>::emit(int p, int64_t m, double time) {
    const SteppedPopulation<T>& population = stage.layers[p].population;
    if (population.silent && population.silent[number * stage.layers[p].size + m]) return;
    spikes[p]->push_back({time, int32_t(m)});
    for (int link : stage.leaving[p]) add(link, time, int32_t(m), use(link, int32_t(m), time), -1, true, nullptr);
}

// Streams, the first thresholds and, unless they are continued, stationary membranes.
template <class T>
void SteppedSample<T>::start_noise(int p) {
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWay<T>& way = ways[p];
    if (!layer.cells.name) return;
    way.stream.assign(layer.compartments * layer.padded, 0);
    for (int64_t m = 0; m < layer.size; ++m) {
        const uint64_t own = keyed(keyed(layer.cells.key, uint64_t(number)), uint64_t(int64_t(layer.cells.name[m])));
        for (int c = 0; c < layer.compartments; ++c) {
            const int64_t here = c * layer.padded + m;
            way.stream[here] = c ? keyed(own, uint64_t(c)) : own;
            if (layer.population.start.v) continue;
            const SteppedCompartment& x = layer.compartment[m * layer.compartments + c];
            way.shift[here] = drawn_shift(p, m, c, 0), way.level[here] = T(x.threshold + way.shift[here]);
            if (x.threshold > 0) way.noise[here] = x.noise * Stream{keyed(way.stream[here], ~uint64_t(0))}.normal();
        }
    }
}

// ---- samples ------------------------------------------------------------------------------------------------------

template <class T>
void SteppedSample<T>::take_samples(int p, int64_t k, bool last, const SteppedEvent* events, int64_t count, SteppedRange range) {
    const SteppedLayer<T>& layer = stage.layers[p];
    const auto& samplings = layer.population.samplings;
    for (size_t n = 0; n < samplings.size(); ++n) {
        const SteppedSampling& wanted = samplings[n];
        const double* times = wanted.at.times(number);
        size_t& next = ways[p].next_sample[n];
        const double tiny = 1e-9 * h();
        for (; next < size_t(wanted.at.count) && times[next] < (last ? start_of(k) + tiny : start_of(k + 1) - tiny); ++next) {
            double* row = wanted.at.value + (number * wanted.at.count + int64_t(next)) * wanted.at.units;
            for (int64_t u = 0; u < wanted.at.units; ++u) {
                const int64_t m = wanted.at.unit[u];
                if (m < range.first || m >= range.last) continue;
                of_lane(p, m, k, events, count);
                row[u] = sample(wanted, p, m, wanted.compartment[u], k, times[next]);
            }
        }
    }
}

template <class T>
double SteppedSample<T>::sample(const SteppedSampling& wanted, int p, int64_t m, int c, int64_t k, double time) {
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWalk<0> walk(layer.unit[m], h());
    load(p, m, k, walk);
    const double at = std::max(time - start_of(k), 0.0);
    const auto spike = [&](SteppedWalk<0>& x, int each) { fire_unseen(p, m, each, k, x); };
    if (at < 1e-9 * h()) {
        walk(0.0, lane_, [](int, double) { return true; });
    } else {
        go(p, m, k, walk, at, spike);
    }
    if (wanted.what == Quantity::membrane) return walk.v[c] + seen_noise(p, m, c, walk) + layer.cells.value(kLeak, c, m);
    return wanted.what == Quantity::adaptation ? walk.w[c] : walk.entering(c);
}

// The noise that a sample sees: between the ends of a step the path is drawn anew, which changes no spike.
template <class T>
template <class Walk>
double SteppedSample<T>::seen_noise(int p, int64_t m, int c, const Walk& walk) const {
    const SteppedLayer<T>& layer = stage.layers[p];
    const double line = walk.noise(c), part = walk.now() / h();
    if (!layer.noisy || part <= 0 || part >= 1 || walk.held[c] > walk.now() || !(layer.rms[c * layer.padded + m] > 0)) return line;
    Stream random{keyed(ways[p].stream[c * layer.padded + m] ^ kSamplingKey, std::bit_cast<uint64_t>(walk.now() + line))};
    return line + std::sqrt(layer.spread[c * layer.padded + m] * part * (1 - part)) * random.normal();
}

template struct SteppedSample<float>;
template struct SteppedSample<double>;

}  // namespace spikeloop
