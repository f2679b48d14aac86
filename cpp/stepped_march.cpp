// One sample on its way: see stepped_march.hpp.
#include "stepped_march.hpp"

namespace spikeloop {
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
    resources_.resize(stage.links.size());
    for (size_t l = 0; l < stage.links.size(); ++l) {
        const Driver& driver = stage.links[l].driver;
        const int64_t units = stage.links[l].size;
        for (int64_t u = number * units; driver && u < (number + 1) * units; ++u) resources_[l].push_back({driver.first[u], driver.last[u]});
    }
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
            add(int(l), link.trains.time[e], link.trains.unit[e], link.amplitude ? link.amplitude[e] : 1.0, e, link.source >= 0, &outside);
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
void SteppedSample<T>::add(int l, double time, int32_t unit, double amplitude, int64_t event, bool inside, std::vector<SteppedEvent>* to) {
    const SteppedLink<T>& link = stage.links[l];
    const int64_t first = stage.run.first, last = first + stage.run.steps;
    const auto put = [&](double delay, int64_t synapse) {
        double at = time + delay;
        if (inside && time < start_of(first)) {
            if (time >= stage.run.settled.value_or(start_of(first - 1))) at = std::max(at, start_of(first));
        } else if (inside) {  // not within the step that it was sent in
            const int64_t sent = step_of(time, h());
            if (step_of(at, h()) <= sent) at = start_of(sent + 1);
        }
        const int64_t k = step_of(at, h());
        if (k < first || k >= last) return;
        const SteppedEvent arriving{at, int32_t(l), unit, synapse, amplitude, event};
        to ? to->push_back(arriving) : later[k % int64_t(later.size())].push_back(arriving);
    };
    if (link.delays != SteppedDelay::per_synapse) return put(link.delay[link.delays == SteppedDelay::per_unit ? unit : 0], -1);
    for (int64_t s = link.begin[unit]; s < link.begin[unit + 1]; ++s) put(link.delay[s], s);
}

template <class T>
double SteppedSample<T>::use(int l, int32_t unit, double time) {
    const Driver& driver = stage.links[l].driver;
    if (!driver) return 1.0;
    auto& [x, last] = resources_[l][unit];
    x = resource(x, driver.used[unit], relaxed(time - last, driver.tau[unit])), last = time;
    return driver.event.of(unit, x);
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
}

template <class T>
void SteppedSample<T>::end_jumps(int p, int64_t k) {
    const SteppedLayer<T>& layer = stage.layers[p];
    SteppedWay<T>& way = ways[p];
    for (size_t n = 0; n < layer.population.currents.size(); ++n) {
        const SteppedCurrent& current = layer.population.currents[n];
        if (!way.jumped[current.compartment]) continue;
        way.jumped[current.compartment] = 0;
        while (way.next_current[n] < size_t(current.count) && current.time[way.next_current[n]] < start_of(k + 1)) ++way.next_current[n];
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
void SteppedSample<T>::set_out() {
    const SteppedRun& run = stage.run;
    for (size_t p = 0; p < ways.size(); ++p) {
        const SteppedLayer<T>& layer = stage.layers[p];
        SteppedWay<T>& way = ways[p];
        const int64_t n = layer.padded, all = layer.compartments * n, size = layer.size;
        way.v.assign(all, T(0)), way.w.assign(all, T(0)), way.j.assign(all, T(0)), way.i.assign(layer.slots * n, T(0));
        way.level = layer.threshold, way.arriving.assign(4 * layer.slots * n, T(0)), way.raising.assign(layer.slots * n, T(0)), way.jump.assign(2 * all, T(0));
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
        for (int c = 0; c < layer.compartments; ++c)
            for (int64_t m = range.first; m < last; ++m)
                if (!std::isfinite(way.v[c * n + m]) || !std::isfinite(way.w[c * n + m])) throw Divergence(number, m, int64_t(p));
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

template struct SteppedSample<float>;
template struct SteppedSample<double>;

template struct SteppedStage<float>;
template struct SteppedStage<double>;

}  // namespace spikeloop
