// What the smoothed model (stepped_smooth.hpp) needs beside its steps.
#include "stepped_smooth.hpp"

namespace spikeloop {

template <class T>
SteppedSums<T>::SteppedSums(const SteppedLayer<T>& p) {
    for (auto* each : {&alpha, &scale, &exponent, &adapting, &a, &b, &threshold, &reset, &leak, &refractory}) each->assign(p.compartments * p.padded, T(0));
    for (auto* each : {&rho, &beta}) each->assign(p.slots * p.padded, T(0));
    for (auto* each : {&into_c, &into_d}) each->assign(p.edges * p.padded, T(0));
}

namespace {

// d/dbeta of end, mean and moment of an arrival (see stepped_layer.cpp): exp(-y), x (1 - exp(-y)) / y and
// x^2 (y - 1 + exp(-y)) / y^2 with y = beta x, by their series.
struct KickSlope {
    double end, mean = 0, moment = 0;
    KickSlope(double beta, double x) {
        const double y = beta * x;
        end = -x * std::exp(-y);
        double term = 1;  // (-1)^n y^(n - 1) / n!
        for (int n = 1; n < 40; ++n) {
            term *= n == 1 ? -1.0 : -y / n;
            mean += term * n / (n + 1), moment += term * n / ((n + 1.0) * (n + 2.0));
        }
        mean *= x * x, moment *= x * x * x;
    }
};

}  // namespace

template <class T>
SteppedSlopes<T>::SteppedSlopes(const SteppedLayer<T>& p, double h) {
    const int64_t n = p.padded;
    half.assign(p.slots * n, T(0)), end.assign(4 * p.slots * n, T(0));
    mean.assign(3 * p.slots * n, T(0)), moment.assign(3 * p.slots * n, T(0));
    for (auto* each : {&cap, &reset, &b}) each->assign(p.compartments * n, T(0));
    unit.assign(p.compartments * n, T(1));
    for (int64_t m = 0; m < p.size; ++m) {
        for (int s = 0; s < p.slots; ++s) {
            const double rate = p.slot[m * p.slots + s].rate * h;
            half[s * n + m] = T(-0.5 * std::exp(-rate / 2));
            const KickSlope k0(rate, 0), k1(rate, 0.25), k2(rate, 0.75), k3(rate, 1);
            const auto e = stepped_cubic(k0.end, k1.end, k2.end, k3.end), f = stepped_cubic(k0.mean, k1.mean, k2.mean, k3.mean);
            const auto g = stepped_cubic(k0.moment, k1.moment, k2.moment, k3.moment);
            for (int k = 0; k < 4; ++k) end[(4 * s + k) * n + m] = T(e[k]);
            for (int k = 0; k < 3; ++k) mean[(3 * s + k) * n + m] = T(f[k + 1]), moment[(3 * s + k) * n + m] = T(g[k + 1]);
        }
        for (int c = 0; c < p.compartments; ++c) {
            const SteppedCompartment& x = p.compartment[m * p.compartments + c];
            cap[c * n + m] = T(std::log(kSteppedRough / (h * x.rate))), reset[c * n + m] = T(x.reset), b[c * n + m] = T(x.b);
            if (x.threshold < kInfinity) unit[c * n + m] = T(std::abs(x.threshold - x.reset));
        }
    }
}

template <class T>
SteppedSmooth<T>::SteppedSmooth(const SteppedStage<T>& stage, const std::vector<SteppedPull<T>>& pulls, const std::vector<SteppedSlopes<T>>& slopes,
                                double beta, int64_t number)
    : stage(stage), pulls(pulls), slopes(slopes), beta(beta), sample(stage, number), trails(stage.layers.size()) {
    sample.set_out();
    const int64_t steps = stage.run.steps;
    for (size_t p = 0; p < trails.size(); ++p) {
        const SteppedLayer<T>& layer = stage.layers[p];
        Trail& trail = trails[p];
        const int64_t row = layer.compartments * layer.padded, slots = layer.slots * layer.padded;
        trail.v.resize((steps + 1) * row), trail.w.resize((steps + 1) * row), trail.i.resize((steps + 1) * slots);
        trail.open.resize(steps * row), trail.mark.assign(steps * row, 0);
        trail.lv.assign(row, T(0)), trail.lw.assign(row, T(0)), trail.li.assign(slots, T(0));
        trail.spike.assign(steps * layer.size, T(0)), trail.arrival.assign(4 * slots, T(0));
        trail.free = sample.ways[p].free;
        std::copy(sample.ways[p].v.begin(), sample.ways[p].v.end(), trail.v.begin());
        std::copy(sample.ways[p].w.begin(), sample.ways[p].w.end(), trail.w.begin());
        std::copy(sample.ways[p].i.begin(), sample.ways[p].i.end(), trail.i.begin());
        trail.next = size_t(pulls[p].spikes.start[number]);
        const T *count = pulls[p].count, *push = pulls[p].push;
        for (int64_t k = 0; k < steps; ++k)
            for (int64_t m = 0; m < layer.size; ++m)
                trail.spike[k * layer.size + m] = (count ? count[number * layer.size + m] : T(0)) + (push ? push[(number * steps + k) * layer.size + m] : T(0));
        gather_pulls(int(p));
    }
}

template <class T>
void SteppedSmooth<T>::seek_currents(int p, int64_t k) {
    const SteppedLayer<T>& layer = stage.layers[p];
    for (size_t n = 0; n < layer.population.currents.size(); ++n) {
        const SteppedCurrent& current = layer.population.currents[n];
        const double* first = current.time;
        sample.ways[p].next_current[n] = size_t(std::lower_bound(first, first + current.count, double(k) * stage.run.step) - first);
        std::fill_n(sample.ways[p].j.data() + current.compartment * layer.padded, layer.padded, T(0));
        sample.set_current(p, n);
    }
}

template <class T>
void SteppedSmooth<T>::open(int p, int64_t k) {
    const SteppedLayer<T>& layer = stage.layers[p];
    Trail& trail = trails[p];
    const double h = stage.run.step, begin = double(k) * h, end = double(k + 1) * h;
    const int64_t row = layer.compartments * layer.padded, first = (k - stage.run.first) * row, out = layer.cells.output * layer.padded;
    uint16_t* mark = trail.mark.data() + first;
    for (int64_t at = 0; at < row; ++at)
        if (trail.free[at] <= begin) mark[at] |= kAble;
    const Trains& spikes = pulls[p].spikes;
    for (; trail.next < size_t(spikes.start[sample.number + 1]) && spikes.time[trail.next] < end; ++trail.next) {
        const int64_t m = spikes.unit[trail.next];
        if (spikes.time[trail.next] < begin) continue;
        mark[out + m] = uint16_t((mark[out + m] | kSpiked) + kOneSpike);
        trail.free[out + m] = spikes.time[trail.next] + layer.compartment[m * layer.compartments + layer.cells.output].refractory;
    }
    T* open = trail.open.data() + first;
    const std::vector<double>& given = sample.ways[p].free;  // holds from before: how long they last depends on nothing here
    for (int64_t at = 0; at < row; ++at) {
        open[at] = T(std::clamp((end - trail.free[at]) / h, 0.0, 1.0));
        if (trail.free[at] >= begin && trail.free[at] < end && trail.free[at] != given[at]) mark[at] |= kReleased;
    }
}

template <class T>
void SteppedSmooth<T>::cross(int p, int64_t k) {
    const SteppedLayer<T>& layer = stage.layers[p];
    Trail& trail = trails[p];
    const int64_t row = layer.compartments * layer.padded, now = (k - stage.run.first) * row, next = now + row;
    for (int c = 0; c < layer.compartments; ++c) {
        if (c == layer.cells.output) continue;
        for (int64_t m = 0; m < layer.size; ++m) {
            const int64_t at = c * layer.padded + m;
            const T threshold = layer.threshold[at];
            if (!(trail.mark[now + at] & kAble) || trail.v[next + at] < threshold || trail.v[now + at] >= threshold) continue;
            const SteppedCompartment& x = layer.compartment[m * layer.compartments + c];
            trail.mark[now + at] |= kCrossed;
            trail.v[next + at] = T(x.reset), trail.w[next + at] += T(x.b);
            trail.free[at] = double(k + 1) * stage.run.step + x.refractory;
        }
    }
}

template <class T>
void SteppedSmooth<T>::pull(int p, double time, int64_t m, int c, double value) {
    const SteppedLayer<T>& layer = stage.layers[p];
    const int64_t row = layer.compartments * layer.padded, steps = stage.run.steps;
    const double place = std::clamp(time / stage.run.step - double(stage.run.first), 0.0, double(steps));
    const double before = std::min(std::floor(place + 1e-6), double(steps - 1)), share = std::clamp(place - before, 0.0, 1.0);
    T* at = trails[p].pull.data() + int64_t(before) * row + c * layer.padded + m;
    at[0] += T((1 - share) * value), at[row] += T(share * value);
}

template <class T>
void SteppedSmooth<T>::gather_pulls(int p) {
    const SteppedLayer<T>& layer = stage.layers[p];
    const SteppedPull<T>& wanted = pulls[p];
    if (wanted.samplings.empty() && !wanted.peaks.value) return;
    trails[p].pull.assign((stage.run.steps + 1) * layer.compartments * layer.padded, T(0));
    for (const SteppedSampling& sampling : wanted.samplings)
        for (int64_t k = 0; k < sampling.at.count; ++k)
            for (int64_t u = 0; u < sampling.at.units; ++u)
                pull(p, sampling.at.times(sample.number)[k], sampling.at.unit[u], sampling.compartment[u],
                     sampling.at.value[(sample.number * sampling.at.count + k) * sampling.at.units + u]);
    for (int64_t m = 0; wanted.peaks.value && m < layer.size; ++m)
        pull(p, wanted.peaks.time[sample.number * layer.size + m], m, layer.cells.output, wanted.peaks.value[sample.number * layer.size + m]);
}

template struct SteppedSums<float>;
template struct SteppedSums<double>;
template struct SteppedSlopes<float>;
template struct SteppedSlopes<double>;
template struct SteppedSmooth<float>;
template struct SteppedSmooth<double>;

}  // namespace spikeloop
