// The stepped kernels keep to their arrays, whatever the size, and do not depend on threads.
#include <cmath>
#include <random>

#include "checks.hpp"
#include "stepped.hpp"

namespace spikeloop::tests {
namespace {

constexpr int64_t kBatch = 3, kSteps = 60, kInputs = 4;
constexpr double kStep = 2e-4;

// A population in a loop with itself, in arrays of exactly the right length: AdEx neurons, or trees with a plateau.
template <class T>
struct Cells {
    int64_t size;
    int compartments;
    std::vector<double> values, tau_syn, reversal, coupling, floor, most, noise, threshold_noise, name;
    std::vector<uint8_t> leaky, silent;
    std::vector<int32_t> coupled, unit, sampled, where;
    std::vector<double> time, delay{0.0}, delays, sample_time, sample, current_time{1e-3, 4e-3}, current, peak, peak_time;
    std::vector<int32_t> train_unit, target;
    std::vector<int64_t> start{0}, begin{0};
    std::vector<T> weight, loop;
    bool disturbed;

    Cells(int64_t size, int compartments, bool disturbed) : size(size), compartments(compartments), disturbed(disturbed) {
        std::mt19937 random(7);
        std::uniform_real_distribution<double> uniform(0, 1);
        const double usual[kCellFields] = {1e-2, 1.0, 0.0, 0.0, 1e-3, compartments == 1 ? 0.1 : 0.0, 0.7, 5e-2, 0.2, 0.1, 1.0};
        for (int f = 0; f < kCellFields; ++f)
            for (int c = 0; c < compartments; ++c)
                for (int64_t m = 0; m < size; ++m) {
                    double value = usual[f] * (f == kTauMem ? 1 + 0.2 * uniform(random) : 1);
                    if (c == 1 && f == kReset) value = 2.0;
                    if (c > 0 && (f == kA || f == kB)) value = 0;
                    values.push_back(value);
                }
        const int64_t all = 2 * compartments * size;
        for (int64_t k = 0; k < all; ++k) tau_syn.push_back(3e-3 + 2e-3 * uniform(random)), reversal.push_back(k < all / 2 ? NAN : -0.5);
        for (int c = 1; c < compartments; ++c) coupled.insert(coupled.end(), {0, c});
        coupling.assign((compartments - 1) * size, 8e-3), leaky.assign(compartments, 1);
        for (int64_t k = 0; k < kBatch * size; ++k) silent.push_back(k % 7 == 0);
        for (int64_t k = 0; k < compartments * size; ++k) floor.push_back(-0.2), most.push_back(4.0), noise.push_back(0.02 * double(k % 3)), threshold_noise.push_back(0.03);
        for (int64_t m = 0; m < size; ++m) name.push_back(double(m + 3)), sampled.push_back(int32_t(m)), where.push_back(int32_t(m % compartments));
        for (int64_t b = 0; b < kBatch; ++b) {
            for (int k = 0; k < 40; ++k) time.push_back(kSteps * kStep * k / 40.0), train_unit.push_back(k % kInputs);
            start.push_back(int64_t(time.size()));
        }
        for (int64_t k = 0; k < kInputs * size; ++k) weight.push_back(T(3 * uniform(random)));
        for (int64_t m = 0; m < size; ++m) {
            for (int64_t k = 0; k < 2; ++k) target.push_back(int32_t((m * 3 + k) % size)), loop.push_back(T(uniform(random) - 0.5)), delays.push_back(1e-3 * uniform(random));
            begin.push_back(int64_t(target.size()));
        }
        for (int k = 0; k < 9; ++k) sample_time.push_back(kSteps * kStep * k / 8.0);
        sample.assign(kBatch * 9 * size, 0.0), current.assign(2 * size, 0.3);
        peak.assign(kBatch * size, 0.0), peak_time.assign(kBatch * size, 0.0);
    }

    std::vector<SteppedPopulation<T>> populations() {
        SteppedPopulation<T> p;
        SteppedCells& x = p.cells;
        x.size = size, x.compartments = compartments, x.receptors = 2, x.couplings = compartments - 1;
        x.values = values.data(), x.leaky = leaky.data(), x.tau_syn = tau_syn.data(), x.reversal = reversal.data();
        x.coupled = coupled.data(), x.coupling = coupling.data();
        if (disturbed)
            x.floor = floor.data(), x.most = most.data(), x.noise = noise.data(), x.threshold_noise = threshold_noise.data(), x.name = name.data(), x.key = 5;
        p.silent = silent.data();
        p.samplings.push_back({Quantity::membrane, {sample_time.data(), 9, false, sampled.data(), size, sample.data()}, where.data()});
        p.currents.push_back({0, current_time.data(), 2, current.data(), false});
        p.peaks = {peak_time.data(), peak.data()};
        return {p};
    }
    std::vector<SteppedLink<T>> links(const Trains* own = nullptr) {
        SteppedLink<T> in, around;
        in.trains = {time.data(), train_unit.data(), start.data()}, in.size = kInputs, in.weight = weight.data(), in.delay = delay.data();
        around.source = 0, around.receptor = 1, around.size = size, around.weight = loop.data(), around.begin = begin.data();
        around.unit = target.data(), around.delay = delays.data(), around.delays = SteppedDelay::per_synapse;
        if (own) around.trains = *own;
        return {in, around};
    }
    SteppedRun run(int threads) const { return {kBatch, 0, kSteps, 1000, kStep, threads}; }
};

// Trains of a batch from what a kernel gave.
struct Observed {
    std::vector<double> time;
    std::vector<int32_t> unit;
    std::vector<int64_t> start{0};
    explicit Observed(const SpikesPerSample& spikes) {
        for (const auto& sample : spikes) {
            for (const Spike& spike : sample) time.push_back(spike.time), unit.push_back(spike.unit);
            start.push_back(int64_t(time.size()));
        }
    }
    Trains trains() const { return {time.data(), unit.data(), start.data()}; }
};

template <class T>
void forwards() {
    for (int64_t size : {1, 5, 70})
        for (int compartments : {1, 3})
            for (bool disturbed : {false, true})
                for (bool looped : {false, true}) {
                    Cells<T> x(size, compartments, disturbed), y(size, compartments, disturbed);
                    auto some = x.links(), same = y.links();
                    if (!looped) some.pop_back(), same.pop_back();
                    const Observed once(stepped_forward(x.populations(), some, x.run(1))[0]), twice(stepped_forward(y.populations(), same, y.run(3))[0]);
                    CHECK(once.time == twice.time && once.unit == twice.unit && once.start == twice.start);
                    CHECK(x.sample == y.sample && (size == 1 || !once.time.empty()));
                    for (double v : x.sample) CHECK(std::isfinite(v));
                }
}

template <class T>
void backwards() {
    for (int64_t size : {1, 5, 70})
        for (int compartments : {1, 3}) {
            Cells<T> x(size, compartments, false);
            const Observed seen(stepped_forward(x.populations(), x.links(), x.run(2))[0]);
            const Trains own = seen.trains();
            auto populations = x.populations();
            SteppedPull<T> pull;
            std::vector<T> count(kBatch * size, T(1)), push(kBatch * kSteps * size, T(0.5));
            pull.spikes = own, pull.count = count.data(), pull.push = push.data();
            std::fill(x.sample.begin(), x.sample.end(), 1.0), std::fill(x.peak.begin(), x.peak.end(), 1.0);
            pull.samplings = populations[0].samplings, pull.peaks = populations[0].peaks;
            std::vector<std::vector<T>> found;
            for (int threads : {1, 3}) {
                std::vector<T> weight(x.weight.size()), loop(x.loop.size()), source(kBatch * kSteps * kInputs);
                const auto gradient = stepped_backward<T>(populations, x.links(&own), {pull}, {{weight.data(), source.data()}, {loop.data(), nullptr}}, 5.0, x.run(threads));
                for (double g : gradient[0].values) CHECK(std::isfinite(g));
                for (T g : source) CHECK(std::isfinite(g));
                weight.insert(weight.end(), loop.begin(), loop.end());
                found.push_back(weight);
            }
            CHECK(found[0] == found[1]);
        }
}

// A state of exactly the right length.
template <class T>
struct Kept {
    std::vector<T> v, w, i;
    std::vector<double> free, noise, shift;
    std::vector<int64_t> fired;
    explicit Kept(const Cells<T>& x) {
        const int64_t all = kBatch * x.compartments * x.size;
        v.assign(all, T(0)), w.assign(all, T(0)), i.assign(2 * all, T(0));
        free.assign(all, 0.0), noise.assign(all, 0.0), shift.assign(all, 0.0), fired.assign(all, 0);
    }
    SteppedState<T> state() { return {v.data(), w.data(), i.data(), free.data(), noise.data(), shift.data(), fired.data()}; }
};

// Cut where some are held, and differentiated from there: a hold from before is given, one that begins there is not.
template <class T>
void continued() {
    constexpr int64_t kCut = 25;
    for (int64_t size : {1, 5, 70})
        for (int compartments : {1, 3}) {
            Cells<T> x(size, compartments, false), y(size, compartments, false);
            Kept<T> between(x), last(x), whole(x);
            auto populations = x.populations(), uncut = y.populations();
            uncut[0].end = whole.state(), populations[0].end = between.state();
            const Observed all(stepped_forward(uncut, y.links(), y.run(1))[0]);
            SteppedRun run = x.run(2);
            run.steps = kCut;
            const Observed early(stepped_forward(populations, x.links(), run)[0]);
            const Trains before = early.trains();
            populations[0].start = between.state(), populations[0].end = last.state();
            run.first = kCut, run.steps = kSteps - kCut;
            const Observed late(stepped_forward(populations, x.links(&before), run)[0]);
            CHECK(early.time.size() + late.time.size() == all.time.size());
            CHECK(last.v == whole.v && last.w == whole.w && last.i == whole.i && last.free == whole.free && last.fired == whole.fired);
            int64_t held = 0;
            for (double free : between.free) held += free > double(kCut) * kStep;
            CHECK(size < 70 || held > 0);
            SteppedPull<T> pull;
            pull.spikes = late.trains();
            std::fill(x.sample.begin(), x.sample.end(), 1.0);
            pull.samplings = populations[0].samplings;
            populations[0].end = {};
            std::vector<T> weight(x.weight.size()), loop(x.loop.size());
            std::vector<std::vector<double>> found;
            for (int threads : {1, 3}) {
                run.threads = threads;
                found.push_back(stepped_backward<T>(populations, x.links(&before), {pull}, {{weight.data(), nullptr}, {loop.data(), nullptr}}, 5.0, run)[0].values);
                for (double g : found.back()) CHECK(std::isfinite(g));
            }
            CHECK(found[0] == found[1]);
            double by_refractory = 0;
            for (int64_t k = 0; k < compartments * size; ++k) by_refractory += std::abs(found[0][kRefractory * compartments * size + k]);
            CHECK(late.time.empty() || size < 70 || by_refractory > 0);
        }
}

}  // namespace

std::vector<Case> stepped_cases() {
    return {{"stepped neurons run, float32", forwards<float>},
            {"stepped neurons run, float64", forwards<double>},
            {"stepped neurons are differentiated, float32", backwards<float>},
            {"stepped neurons are differentiated, float64", backwards<double>},
            {"stepped neurons go on from a state, float32", continued<float>},
            {"stepped neurons go on from a state, float64", continued<double>}};
}

}  // namespace spikeloop::tests
