// One neuron, in closed form.
#include <random>

#include "checks.hpp"
#include "modes.hpp"
#include "spike_order.hpp"

namespace spikeloop::tests {
namespace {

void flow_halves_compose() {
    for (double b : {20.0, 100.0, 100.0 * (1 + 1e-9), 500.0})
        for (double dt : {0.0, 1e-9, 1e-3, 10.0}) {
            const Flow half = flow(dt / 2, 100.0, b), whole = flow(dt, 100.0, b);
            CHECK(std::abs(half.em * half.em - whole.em) <= 1e-14);
            CHECK(std::abs(half.em * half.g + half.es * half.g - whole.g) <= 1e-14);
        }
}

void a_peak_at_the_threshold_is_no_spike() {
    const double peak = response_peak(100.0, 200.0);
    const Neuron n{100.0, 200.0, 1.0, 0.0, 0.0};
    CHECK(first_crossing(n, 0.0, 0.999 / peak, 1.0) < 0);
    CHECK(first_crossing(n, 0.0, 1.001 / peak, 1.0) > 0);
}

void tonic_firing_never_stops() {
    const Neuron n{100.0, 200.0, -0.5, -1.0, 1e-3};
    State s{n.initial(), 0.0};
    double last = 0;
    int spikes = 0;
    advance(n, s, 0.0, 1.0, true, [&](double time) {
        CHECK(time > last && time <= 1.0);
        last = time;
        return ++spikes < 1000;
    });
    CHECK(spikes > 50 && spikes < 1000);
}

void strange_inputs_end() {
    const double huge = 1e300;
    for (double v : {-huge, -1.0, 0.0, 0.5})
        for (double i : {-huge, -1.0, 0.0, 1e-300, 1.0, huge}) {
            const Neuron n{100.0, 200.0, 1.0, 0.0, 0.0};
            const double wait = first_crossing(n, v, i, 1.0);
            CHECK(wait <= 1.0);
            maximum(v, i, 1.0, n.a, n.b);
        }
}

void modes_are_the_flow() {
    for (double b : {20.0, 96.0, 100.0, 100.0 * (1 + 1e-9), 104.0, 106.0, 500.0}) {
        const Neuron n{100.0, b, 1.0, 0.0, 0.0};
        const double span = 16 / std::max(n.a, n.b), at = 0.6 * span;
        const Modes modes(n, span);
        const auto step = [&](double dt) { return modes.step(flow(dt, n.a, n.b)); };
        const Adjoint late{0.7, -0.4};
        Adjoint early = late;  // from `at` after the third anchor back to a quarter of a span after the first
        flow_back(n, early, flow(2 * span + at - 0.25 * span, n.a, n.b));
        Pair pair = to_anchor(modes, late, step(at));
        pair.back(modes.over_span.times(2));
        const Step back = step(0.25 * span);
        const Adjoint found = from_anchor(modes, pair, back.x, 1 / back.m, 1 / back.s);
        CHECK(std::abs(found.v - early.v) <= 1e-12 * std::abs(early.v));
        CHECK(std::abs(found.i - early.i) <= 1e-11 * (std::abs(early.i) + std::abs(early.v)));
    }
}

void spikes_are_put_in_order() {
    std::mt19937_64 random{5};
    for (int64_t count : {0, 1, 2, 8, 9, 30, 200, 1000})
        for (double width : {1.0, 0.1, 1e-3, 0.0, 3.0}) {
            std::vector<Spike> spikes;
            for (int64_t k = 0; k < count; ++k) spikes.push_back({std::uniform_real_distribution<double>(0.0, 1.0)(random) * width, int32_t(random() % 50)});
            std::vector<Spike> expected = spikes;
            std::sort(expected.begin(), expected.end(), Earlier());
            sort_spikes(spikes);
            CHECK(spikes.size() == expected.size());
            for (size_t k = 0; k < spikes.size(); ++k) CHECK(spikes[k].time == expected[k].time && spikes[k].unit == expected[k].unit);
        }
}

}  // namespace

std::vector<Case> neuron_cases() {
    return {{"two halves of a flow make the whole", flow_halves_compose},
            {"a peak at the threshold is no spike", a_peak_at_the_threshold_is_no_spike},
            {"tonic firing never stops", tonic_firing_never_stops},
            {"strange inputs end", strange_inputs_end},
            {"modes are the flow", modes_are_the_flow},
            {"spikes are put in order", spikes_are_put_in_order}};
}

}  // namespace spikeloop::tests
