// Short-term plasticity and correlation sensors keep to their arrays, go on where they were, and say what pairs of events say.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "checks.hpp"
#include "correlation.hpp"
#include "short_term.hpp"
#include "stepped.hpp"

namespace spikeloop::tests {
namespace {

constexpr int64_t kBatch = 3, kUnits = 5;
const double kNever = -std::numeric_limits<double>::infinity();

// Events of a batch in arrays of exactly the right length; some units have none, and one sample neither.
struct Events {
    std::vector<double> time, used, tau, base, slope, first, last, x, decay, before;
    std::vector<int32_t> unit;
    std::vector<int64_t> start{0}, previous, step;

    explicit Events(int64_t each) : first(kBatch * kUnits, 1.0), last(kBatch * kUnits, kNever) {
        std::mt19937 random(11);
        std::uniform_real_distribution<double> uniform(0, 1);
        for (int64_t u = 0; u < kUnits; ++u) used.push_back(0.2 + 0.7 * uniform(random)), tau.push_back(1e-2 + 2e-2 * uniform(random));
        for (int64_t b = 0; b < kBatch; ++b) {
            for (int64_t e = 0; e < (b == 1 ? 0 : each); ++e) time.push_back(1e-3 * double(e) + 9e-4 * uniform(random)), unit.push_back(int32_t(random() % (kUnits - 1)));
            start.push_back(int64_t(time.size()));
        }
        x.resize(time.size()), decay.resize(time.size()), before.resize(time.size()), previous.resize(time.size());
        for (double t : time) step.push_back(int64_t(t / 2e-3));
    }
    void find() { meet({time.data(), unit.data(), start.data(), used.data(), tau.data(), first.data(), last.data(), x.data(), decay.data(), before.data(), previous.data()}, kBatch, kUnits); }
    // Depressing events, or facilitating ones, that meet x have the size U x or 1 - (1 - U) x.
    void sized(bool facilitating) {
        base.assign(kUnits, facilitating ? 1.0 : 0.0), slope = used;
        for (double& each : slope) each -= facilitating ? 1.0 : 0.0;
    }
    Drawn drawn(const std::vector<double>& first0, const std::vector<double>& last0) const {
        return {time.data(), unit.data(), start.data(), x.data(), previous.data(), step.data(), used.data(), tau.data(), first0.data(), last0.data(), kUnits, {base.data(), slope.data()}};
    }
};

void resources_are_met() {
    for (int64_t each : {0, 1, 40}) {
        Events events(each);
        events.find();
        for (size_t e = 0; e < events.time.size(); ++e) {
            CHECK(events.x[e] > 0 && events.x[e] <= 1);
            const int64_t before = events.previous[e];
            CHECK(before < int64_t(e) && (before < 0 || events.unit[before] == events.unit[e]));
            if (before < 0) CHECK(events.x[e] == 1);
            else CHECK(events.x[e] == resource(events.x[before], events.used[events.unit[e]], relaxed(events.time[e] - events.time[before], events.tau[events.unit[e]])));
        }
    }
}

// What one more spike of strength s in a step makes of the sum of all sizes, by differences.
double sum_of_sizes(const Events& events, int64_t sample, int32_t unit, int64_t step, double strength) {
    double x = 1, last = kNever, total = 0;
    bool done = false;
    const double used = events.used[unit], tau = events.tau[unit];
    const auto pass = [&](double time, double size) {
        const double met = 1 - (1 - x) * std::exp(-(time - last) / tau);
        total += size * (events.base[unit] + events.slope[unit] * met);
        x = met * (1 - used * size), last = time;
    };
    for (int64_t e = events.start[sample]; e < events.start[sample + 1]; ++e) {
        if (events.unit[e] != unit) continue;
        if (!done && events.step[e] > step) pass((double(step) + 0.5) * 2e-3, strength), done = true;
        const bool joins = !done && events.step[e] == step;
        pass(events.time[e], joins ? 1 + strength : 1.0), done |= joins;
    }
    if (!done) pass((double(step) + 0.5) * 2e-3, strength);
    return total;
}

template <class T>
void sweeps_back() {
    const std::vector<double> first(kBatch * kUnits, 1.0), last(kBatch * kUnits, kNever);
    for (bool facilitating : {false, true}) {
        Events events(40);
        events.find(), events.sized(facilitating);
        const Drawn of = events.drawn(first, last);
        for (int64_t b = 0; b < kBatch; ++b) {
            std::vector<double> ahead(kUnits), by_size(events.start[b + 1] - events.start[b], 1.0);
            std::vector<int64_t> coming(kUnits), latest(kUnits), next(1);
            const DrawnState state{ahead.data(), coming.data(), latest.data(), next.data()};
            set_out(of, state, b);
            for (int64_t k = 21; k >= 0; --k) {
                std::vector<T> felt(kUnits, T(1));
                draw_back(of, state, b, k, (double(k) + 0.5) * 2e-3, by_size.data(), felt.data());
                for (int32_t u = 0; u < kUnits; ++u) {
                    const double up = sum_of_sizes(events, b, u, k, 1e-5), down = sum_of_sizes(events, b, u, k, -1e-5);
                    CHECK(std::abs(double(felt[u]) - (up - down) / 2e-5) < 1e-5);
                }
            }
        }
    }
}

// A loop of neurons in steps whose synapses draw on resources: the same for any number of threads, and smaller than without.
template <class T>
void loops_draw() {
    constexpr int64_t size = 5, steps = 200;
    const std::vector<double> usual{1e-2, 1.0, 0.0, 0.0, 1e-3, 0.0, 0.7, 5e-2, 0.0, 0.0, 1.0};
    std::vector<double> values, tau_syn(size, 4e-3), reversal(size, NAN), coupling, time, delay{1e-3};
    for (double value : usual) values.insert(values.end(), size, value);
    const std::vector<uint8_t> leaky{1};
    std::vector<int32_t> unit;
    std::vector<int64_t> start{0};
    for (int64_t b = 0; b < kBatch; ++b) {
        for (int k = 0; k < 60; ++k) time.push_back(6e-4 * k + 1e-5 * double(b)), unit.push_back(k % size);
        start.push_back(int64_t(time.size()));
    }
    std::vector<T> in(size * size, T(1.2)), around(size * size, T(1.0));
    const std::vector<double> used(size, 0.6), tau(size, 5e-2), base(size, 0.0), first(kBatch * size, 1.0), last(kBatch * size, kNever);
    std::vector<size_t> counts;
    for (int threads : {1, 3, 0}) {
        SteppedPopulation<T> p;
        p.cells.size = size, p.cells.values = values.data(), p.cells.leaky = leaky.data(), p.cells.tau_syn = tau_syn.data(), p.cells.reversal = reversal.data();
        SteppedLink<T> outside, inside;
        outside.trains = {time.data(), unit.data(), start.data()}, outside.size = inside.size = size, outside.weight = in.data(), inside.weight = around.data();
        outside.delay = inside.delay = delay.data(), inside.source = 0;
        if (threads) inside.driver.used = used.data(), inside.driver.tau = tau.data(), inside.driver.first = first.data(), inside.driver.last = last.data(), inside.driver.event = {base.data(), used.data()};
        const auto spikes = stepped_forward<T>({p}, {outside, inside}, {kBatch, 0, steps, 1000, 2e-4, std::max(threads, 1)})[0];
        size_t count = 0;
        for (const auto& sample : spikes) count += sample.size();
        counts.push_back(count);
    }
    CHECK(counts[0] > 0 && counts[0] == counts[1] && counts[0] < counts[2]);
}

// The reverse sweep through it keeps to its arrays, and does not depend on threads.
template <class T>
void loops_are_swept() {
    constexpr int64_t size = kUnits, steps = 30;
    const std::vector<double> usual{1e-2, 1.0, 0.0, 0.0, 1e-3, 0.0, 0.7, 5e-2, 0.0, 0.0, 1.0};
    std::vector<double> values, tau_syn(size, 4e-3), reversal(size, NAN);
    for (double value : usual) values.insert(values.end(), size, value);
    const std::vector<uint8_t> leaky{1};
    const std::vector<double> first(kBatch * kUnits, 1.0), last(kBatch * kUnits, kNever), delay{1e-3};
    Events events(25);
    events.find(), events.sized(false);
    for (int64_t e = 0; e < int64_t(events.time.size()); ++e) events.step[e] = step_of(events.time[e], 1e-3);
    std::vector<double> amplitude;
    for (size_t e = 0; e < events.time.size(); ++e) amplitude.push_back(events.drawn(first, last).event.of(events.unit[e], events.x[e]));
    std::vector<T> weight(size * size, T(0.7)), count(kBatch * size, T(1));
    std::vector<std::vector<T>> found;
    for (int threads : {1, 3}) {
        SteppedPopulation<T> p;
        p.cells.size = size, p.cells.values = values.data(), p.cells.leaky = leaky.data(), p.cells.tau_syn = tau_syn.data(), p.cells.reversal = reversal.data();
        SteppedLink<T> outside;
        outside.trains = {events.time.data(), events.unit.data(), events.start.data()}, outside.size = size, outside.weight = weight.data();
        outside.delay = delay.data(), outside.amplitude = amplitude.data(), outside.drawn = events.drawn(first, last);
        SteppedLink<T> inside = outside;
        inside.source = 0;
        SteppedPull<T> pull;
        pull.spikes = outside.trains, pull.count = count.data();
        std::vector<T> one(weight.size()), other(weight.size()), source(kBatch * steps * size);
        stepped_backward<T>({p}, {outside, inside}, {pull}, {{one.data(), source.data()}, {other.data(), nullptr}}, 5.0, {kBatch, 0, steps, 1000, 1e-3, threads});
        for (T g : source) CHECK(std::isfinite(g));
        one.insert(one.end(), other.begin(), other.end()), one.insert(one.end(), source.begin(), source.end());
        found.push_back(one);
    }
    CHECK(found[0] == found[1]);
}

// Synapses between some rows and targets; the sensors against all pairs, moment by moment.
void sensors_see_neighbours() {
    std::mt19937 random(5);
    std::uniform_real_distribution<double> uniform(0, 1);
    constexpr int64_t rows = 4, targets = 3;
    for (bool each : {false, true})
        for (double full : {0.3, 1e9}) {
            std::vector<int32_t> source, target;
            std::vector<int64_t> row_begin{0}, by_row, target_begin{0}, by_target;
            for (int32_t r = 0; r < rows; ++r) {
                for (int32_t t = 0; t < targets; ++t)
                    if ((r + t) % 3 || r == 0) by_row.push_back(int64_t(target.size())), source.push_back(r), target.push_back(t);
                row_begin.push_back(int64_t(by_row.size()));
            }
            for (int32_t t = 0; t < targets; ++t) {
                for (size_t k = 0; k < target.size(); ++k)
                    if (target[k] == t) by_target.push_back(int64_t(k));
                target_begin.push_back(int64_t(by_target.size()));
            }
            const size_t synapses = target.size(), numbers = each ? synapses : 1;
            std::vector<double> arrival(synapses, kNever), spike(targets, kNever), causal(synapses), anticausal(synapses), amplitude, rate;
            for (size_t k = 0; k < numbers; ++k) amplitude.push_back(0.1 + 0.1 * uniform(random)), rate.push_back(100 + 100 * uniform(random));
            std::vector<double> when[2];
            std::vector<int32_t> who[2];
            for (int side : {0, 1}) {
                for (int k = 0; k < 30; ++k) when[side].push_back(1e-3 * double(random() % 60)), who[side].push_back(int32_t(random() % (side ? targets : rows)));
                std::sort(when[side].begin(), when[side].end());
            }
            const Sensors sensors{{row_begin.data(), by_row.data(), rows}, {target_begin.data(), by_target.data(), targets}, target.data(), arrival.data(), spike.data(),
                                  {causal.data(), amplitude.data(), rate.data(), each}, {anticausal.data(), amplitude.data(), rate.data(), each}, full};
            int64_t cut[2] = {0, 0};  // in two stretches, as runs that go on
            for (double until : {27.5e-3, 1.0}) {
                Moments part[2];
                for (int side : {0, 1}) {
                    const int64_t from = cut[side];
                    while (cut[side] < 30 && when[side][cut[side]] < until) ++cut[side];
                    part[side] = {when[side].data() + from, who[side].data() + from, cut[side] - from};
                }
                correlate(sensors, part[0], part[1]);
            }
            for (size_t k = 0; k < synapses; ++k) {
                const size_t at = each ? k : 0;
                double up = 0, down = 0, before = kNever;
                for (int s = 0; s < 30; ++s) {
                    if (who[1][s] != target[k]) continue;
                    double latest = kNever;
                    for (int a = 0; a < 30; ++a)
                        if (who[0][a] == source[k] && when[0][a] > before && when[0][a] <= when[1][s]) latest = when[0][a];
                    if (latest > kNever) up = std::min(full, up + amplitude[at] * std::exp(-(when[1][s] - latest) * rate[at]));
                    before = when[1][s];
                }
                before = kNever;
                for (int a = 0; a < 30; ++a) {
                    if (who[0][a] != source[k]) continue;
                    double latest = kNever;
                    for (int s = 0; s < 30; ++s)
                        if (who[1][s] == target[k] && when[1][s] >= before && when[1][s] < when[0][a]) latest = when[1][s];
                    if (latest > kNever) down = std::min(full, down + amplitude[at] * std::exp(-(when[0][a] - latest) * rate[at]));
                    before = when[0][a];
                }
                CHECK(std::abs(causal[k] - up) < 1e-12 && std::abs(anticausal[k] - down) < 1e-12);
            }
        }
}

}  // namespace

std::vector<Case> plasticity_cases() {
    return {{"events meet resources", resources_are_met},
            {"one more spike draws on resources, float32", sweeps_back<float>},
            {"one more spike draws on resources, float64", sweeps_back<double>},
            {"loops in steps draw on resources, float32", loops_draw<float>},
            {"loops in steps draw on resources, float64", loops_draw<double>},
            {"loops in steps are swept, float32", loops_are_swept<float>},
            {"loops in steps are swept, float64", loops_are_swept<double>},
            {"correlation sensors see neighbours", sensors_see_neighbours}};
}

}  // namespace spikeloop::tests
