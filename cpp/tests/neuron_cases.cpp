// One neuron, in closed form.
#include "checks.hpp"
#include "lif.hpp"

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

}  // namespace

std::vector<Case> neuron_cases() {
    return {{"two halves of a flow make the whole", flow_halves_compose},
            {"a peak at the threshold is no spike", a_peak_at_the_threshold_is_no_spike},
            {"tonic firing never stops", tonic_firing_never_stops},
            {"strange inputs end", strange_inputs_end}};
}

}  // namespace spikeloop::tests
