// One sample on its way: see stepped_march.hpp.
#include "stepped_march.hpp"

namespace spikeloop {
namespace {

constexpr uint64_t kThresholdKey = 0x9fb21c651e98df25ull, kSamplingKey = 0x5851f42d4c957f2dull;

}  // namespace

namespace {

// Which receptors of a population anything reaches: (K, C).
template <class T>
std::vector<uint8_t> used_slots(const SteppedPopulation<T>& population, const std::vector<SteppedLink<T>>& links, int number, int64_t batch) {
    const SteppedCells& cells = population.cells;
    const int64_t kinds = int64_t(cells.receptors) * cells.compartments;
    std::vector<uint8_t> used(kinds, 0);
    for (const auto& link : links)
        if (link.target == number) used[link.receptor * cells.compartments + link.compartment] = 1;
    for (int64_t b = 0; population.start.i && b < batch; ++b)
        for (int64_t k = 0; k < kinds; ++k)
            for (int64_t m = 0; m < cells.size && !used[k]; ++m) used[k] = population.start.i[(b * kinds + k) * cells.size + m] != 0;
    return used;
}

}  // namespace

template <class T>
SteppedStage<T>::SteppedStage(const std::vector<SteppedPopulation<T>>& populations, const std::vector<SteppedLink<T>>& links, const SteppedRun& run,
                               bool whole)
    : links(links), run(run), leaving(populations.size()) {
    layers.reserve(populations.size());
    for (size_t p = 0; p < populations.size(); ++p) layers.emplace_back(populations[p], run.step, used_slots(populations[p], links, int(p), run.batch), whole);
    for (size_t k = 0; k < links.size(); ++k) {
        if (links[k].source < 0) continue;
        leaving[links[k].source].push_back(int(k));
        const SteppedLink<T>& link = links[k];
        const int64_t delays = link.delays == SteppedDelay::common ? 1 : link.delays == SteppedDelay::per_unit ? link.size : link.begin[link.size];
        for (int64_t d = 0; d < delays; ++d) longest = std::max(longest, int64_t(std::ceil(link.delay[d] / run.step)) + 2);
    }
}

template <class T>
SteppedSample<T>::SteppedSample(const SteppedStage<T>& stage, int64_t number) : stage(stage), number(number), ways(stage.layers.size()) {
    for (const auto& leaving : stage.leaving)
        if (!leaving.empty() && later.empty()) later.resize(stage.longest + 2);
    gather();
}

// ---- arrivals -----------------------------------------------------------------------------------------------------

template <class T>
void SteppedSample<T>::gather() {
    const SteppedRun& run = stage.run;
    for (size_t l = 0; l < stage.links.size(); ++l) {
        const SteppedLink<T>& link = stage.links[l];
        if (!link.trains.start) continue;
        for (int64_t e = link.trains.start[number]; e < link.trains.start[number + 1]; ++e)
            add(int(l), link.trains.time[e], link.trains.unit[e], link.amplitude ? link.amplitude[e] : 1.0, link.source >= 0, &outside);
    }
    std::sort(outside.begin(), outside.end(), SteppedOrder());
    begin.assign(run.steps + 1, int64_t(outside.size()));
    int64_t next = 0;
    for (int64_t k = 0; k < run.steps; ++k) {
        begin[k] = next;
        while (next < int64_t(outside.size()) && step_of(outside[next].time, h()) <= run.first + k) ++next;
    }
}

// What a spike brings through a link: an event, or one for every synapse. `to`: a list, or the ring.
template <class T>
void SteppedSample<T>::add(int l, double time, int32_t unit, double amplitude, bool inside, std::vector<SteppedEvent>* to) {
    const SteppedLink<T>& link = stage.links[l];
    const int64_t first = stage.run.first, last = first + stage.run.steps;
    const auto put = [&](double delay, int64_t synapse) {
        double at = time + delay;
        if (inside) {  // not within the step that it was sent in
            const int64_t sent = step_of(time, h());
            if (step_of(at, h()) <= sent) at = start_of(sent + 1);
        }
        const int64_t k = step_of(at, h());
        if (k < first || k >= last) return;
        const SteppedEvent event{at, int32_t(l), unit, synapse, amplitude};
        to ? to->push_back(event) : later[k % int64_t(later.size())].push_back(event);
    };
    if (link.delays != SteppedDelay::per_synapse) return put(link.delay[link.delays == SteppedDelay::per_unit ? unit : 0], -1);
    for (int64_t s = link.begin[unit]; s < link.begin[unit + 1]; ++s) put(link.delay[s], s);
}

template <class T>
const SteppedEvent* SteppedSample<T>::arrivals(int64_t k, int64_t& count) {
    const int64_t from = begin[k - stage.run.first], to = begin[k - stage.run.first + 1];
    std::vector<SteppedEvent>* own = later.empty() ? nullptr : &later[k % int64_t(later.size())];
    if (!own || own->empty()) {
        count = to - from;
        return outside.data() + from;
    }
    together_.assign(outside.begin() + from, outside.begin() + to);
    together_.insert(together_.end(), own->begin(), own->end());
    own->clear();
    std::sort(together_.begin(), together_.end(), SteppedOrder());
    count = int64_t(together_.size());
    return together_.data();
}

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

// ---- piecewise constant currents ----------------------------------------------------------------------------------

// Moments of the jumps of J within step k.
template <class T>
void SteppedSample<T>::deliver_jumps(int p, int64_t k, SteppedRange range) {
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWay<T>& way = ways[p];
    for (size_t n = 0; n < layer.population.currents.size(); ++n) {
        const SteppedCurrent& current = layer.population.currents[n];
        const int c = current.compartment;
        const double* rows = current.value + (current.per_sample ? number * current.count * layer.size : 0);
        for (size_t j = way.next_current[n]; j < size_t(current.count) && current.time[j] < start_of(k + 1); ++j) {
            const T x = T((start_of(k + 1) - current.time[j]) / h());
            T *first = way.jump.data() + 2 * c * layer.padded, *second = first + layer.padded;
            if (!way.jumped[c]) std::fill_n(first, 2 * layer.padded, T(0));
            way.jumped[c] = 1;
            for (int64_t m = range.first; m < std::min(range.last, layer.size); ++m) {
                const T by = T(rows[j * layer.size + m] - (j > 0 ? rows[(j - 1) * layer.size + m] : 0.0));
                first[m] += by * x, second[m] += by * x * x;
            }
        }
    }
    step_ = k;
}

template <class T>
void SteppedSample<T>::end_jumps(int p) {
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWay<T>& way = ways[p];
    for (size_t n = 0; n < layer.population.currents.size(); ++n) {
        const SteppedCurrent& current = layer.population.currents[n];
        if (!way.jumped[current.compartment]) continue;
        way.jumped[current.compartment] = 0;
        while (way.next_current[n] < size_t(current.count) && current.time[way.next_current[n]] < start_of(step_ + 1)) ++way.next_current[n];
        set_current(p, n);
    }
}

template <class T>
void SteppedSample<T>::set_current(int p, size_t n) {
    const SteppedLayer<T>& layer = stage.layers[p];
    const SteppedCurrent& current = layer.population.currents[n];
    const size_t next = ways[p].next_current[n];
    const double* rows = current.value + (current.per_sample ? number * current.count * layer.size : 0);
    for (int64_t m = 0; next > 0 && m < layer.size; ++m) ways[p].j[current.compartment * layer.padded + m] = T(rows[(next - 1) * layer.size + m]);
}

// ---- from the beginning to the end --------------------------------------------------------------------------------

template <class T>
void SteppedSample<T>::set_out(SteppedRange) {
    const SteppedRun& run = stage.run;
    for (size_t p = 0; p < ways.size(); ++p) {
        const SteppedLayer<T>& layer = stage.layers[p];
        SteppedWay<T>& way = ways[p];
        const int64_t n = layer.padded, all = layer.compartments * n, size = layer.size;
        way.v.assign(all, T(0)), way.w.assign(all, T(0)), way.j.assign(all, T(0)), way.i.assign(layer.slots * n, T(0));
        way.level = layer.threshold, way.arriving.assign(4 * layer.slots * n, T(0)), way.jump.assign(2 * all, T(0));
        way.touched.assign(layer.slots, 0), way.jumped.assign(layer.compartments, 0);
        way.free.assign(all, -kInfinity), way.shift.assign(all, 0.0), way.noise.assign(all, 0.0), way.after.assign(all, 0.0), way.fired.assign(all, 0);
        way.open.assign(all, T(1)), way.soonest.assign(n / (64 / sizeof(T)), kInfinity);
        way.next_current.assign(layer.population.currents.size(), 0), way.next_sample.assign(layer.population.samplings.size(), 0);
        for (int c = 0; c < layer.compartments; ++c)
            for (int64_t m = 0; m < size; ++m) {
                const SteppedCompartment& x = layer.compartment[m * layer.compartments + c];
                if (x.threshold <= 0) way.v[c * n + m] = T(x.reset);
            }
        if (const SteppedState<T>& start = layer.population.start; start.v) {
            const int64_t from = number * layer.compartments * size;
            for (int c = 0; c < layer.compartments; ++c)
                for (int64_t m = 0; m < size; ++m) {
                    const int64_t to = c * n + m, at = from + c * size + m;
                    way.v[to] = start.v[at], way.w[to] = start.w[at], way.free[to] = start.free[at], way.noise[to] = start.noise[at];
                    way.shift[to] = start.shift[at], way.fired[to] = start.fired[at];
                    way.level[to] = T(layer.compartment[m * layer.compartments + c].threshold + way.shift[to]);
                    if (way.free[to] > start_of(run.first)) way.open[to] = T(0);
                }
            for (size_t vector = 0; vector < way.soonest.size(); ++vector) look_for_releases(int(p), int64_t(vector), start_of(run.first));
            const int64_t kinds = layer.cells.receptors * layer.compartments;
            for (int s = 0; s < layer.slots; ++s)
                for (int64_t m = 0; m < size; ++m)
                    way.i[s * n + m] = start.i[(number * kinds + layer.slot_of[s][1] * layer.compartments + layer.slot_of[s][0]) * size + m];
        }
        start_noise(int(p));
        for (size_t k = 0; k < layer.population.currents.size(); ++k) {
            const SteppedCurrent& current = layer.population.currents[k];
            while (way.next_current[k] < size_t(current.count) && current.time[way.next_current[k]] < start_of(run.first)) ++way.next_current[k];
            set_current(int(p), k);
        }
        for (size_t k = 0; k < layer.population.samplings.size(); ++k) {
            const Sampling& at = layer.population.samplings[k].at;
            while (way.next_sample[k] < size_t(at.count) && at.times(number)[way.next_sample[k]] < start_of(run.first) * (1 - 1e-12)) ++way.next_sample[k];
        }
        if (layer.population.peaks.value) {
            way.peak.assign(n, -std::numeric_limits<T>::infinity()), way.peak_time.assign(n, start_of(run.first));
            std::copy_n(way.v.data() + layer.cells.output * n, size, way.peak.data());
        }
    }
}

template <class T>
void SteppedSample<T>::finish(SteppedRange range) {
    for (size_t p = 0; p < ways.size(); ++p) {
        const SteppedLayer<T>& layer = stage.layers[p];
        const SteppedWay<T>& way = ways[p];
        const int64_t n = layer.padded, size = layer.size, last = std::min(range.last, size);
        const SteppedState<T>& end = layer.population.end;
        for (int c = 0; end.v && c < layer.compartments; ++c)
            for (int64_t m = range.first; m < last; ++m) {
                const int64_t from = c * n + m, to = (number * layer.compartments + c) * size + m;
                end.v[to] = way.v[from], end.w[to] = way.w[from], end.free[to] = way.free[from], end.noise[to] = way.noise[from];
                end.shift[to] = way.shift[from], end.fired[to] = way.fired[from];
            }
        const int64_t kinds = layer.cells.receptors * layer.compartments;
        for (int s = 0; end.v && s < layer.slots; ++s)
            for (int64_t m = range.first; m < last; ++m)
                end.i[(number * kinds + layer.slot_of[s][1] * layer.compartments + layer.slot_of[s][0]) * size + m] = way.i[s * n + m];
        const Peaks& peaks = layer.population.peaks;
        for (int64_t m = range.first; peaks.value && m < last; ++m) {
            peaks.value[number * size + m] = double(way.peak[m]) + layer.cells.value(kLeak, layer.cells.output, m);
            peaks.time[number * size + m] = way.peak_time[m];
        }
    }
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
    for (int link : stage.leaving[p]) add(link, time, int32_t(m), 1.0, true, nullptr);
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

template struct SteppedStage<float>;
template struct SteppedStage<double>;

}  // namespace spikeloop
