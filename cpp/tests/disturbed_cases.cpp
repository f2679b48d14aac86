// The kernels of a chip's twin: undisturbed they are the dense kernel, disturbed they keep to their arrays.
#include "checks.hpp"
#include "disturbed.hpp"
#include "problem.hpp"

namespace spikeloop::tests {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// A problem's neurons with a floor, saturation and noise of their own, in arrays of exactly the right length.
struct Disturbed : Problem<float> {
    std::vector<double> floor, most, noise, threshold_noise, name;
    std::vector<float> loop;

    Disturbed(const Kind& kind, bool disturbed) : Problem<float>(kind) {
        delay = {0.0};
        for (int64_t m = 0; m < kind.size; ++m) {
            floor.push_back(disturbed ? leak[m] - 0.3 - 0.01 * double(m % 5) : -kNever);
            most.push_back(disturbed ? 2.0 + 0.1 * double(m % 7) : kNever);
            noise.push_back(disturbed && m % 6 ? 0.01 * double(m % 4) : 0.0);
            threshold_noise.push_back(disturbed && m % 2 ? 0.02 : 0.0);
            name.push_back(double(3 * m + 1));
        }
        for (int64_t w = 0; w < kind.size * kind.size; ++w) loop.push_back(w % 3 ? 0.0f : 0.2f - 0.1f * float(w % 5));
    }

    Disturbance disturbance() const { return {floor.data(), most.data(), noise.data(), threshold_noise.data(), name.data(), 11, 8e-6}; }
    Batch forward() { return to_batch(disturbed_forward(dense(), neurons(), disturbance(), request())); }
    Batch looped() { return to_batch(disturbed_loop(dense(), loop.data(), neurons(), disturbance(), request())); }
};

// All sizes and options that these kernels have: neurons that spike, from rest, inputs without delays.
std::vector<Kind> disturbed_kinds() {
    std::vector<Kind> all;
    for (Kind k : kinds())
        if (k.spiking) k.continued = k.delay_per_unit = false, all.push_back(k);
    return all;
}

bool same(const Batch& x, const Batch& y) { return x.time == y.time && x.unit == y.unit && x.start == y.start; }

bool finite(const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

void undisturbed_they_are_the_dense_kernel() {
    for (Kind kind : disturbed_kinds()) {
        kind.silent = false;  // there a silent neuron never spikes, here it spikes and sends nothing
        Disturbed x(kind, false), y(kind, false);
        const Batch ours = x.forward(), dense = to_batch(y.forward());
        CHECK(ours.start == dense.start);
        for (int64_t k = 0; k < ours.size(); ++k) CHECK(std::abs(ours.time[k] - dense.time[k]) < 1e-4 * x.duration);
        for (size_t k = 0; k < x.sample_value.size(); ++k) CHECK(std::abs(x.sample_value[k] - y.sample_value[k]) < 1e-2);
    }
}

void everything_disturbed_runs() {
    for (const Kind& kind : disturbed_kinds()) {
        Kind threaded = kind;
        threaded.threads = 3;
        Disturbed x(kind, true), y(threaded, true);
        const Batch once = x.forward();
        CHECK(same(once, y.forward()));
        CHECK(x.sample_value == y.sample_value && finite(x.sample_value));
        for (int64_t k = 0; k < once.size(); ++k) {
            CHECK(once.unit[k] >= 0 && once.unit[k] < kind.size && once.time[k] >= 0 && once.time[k] <= x.duration);
        }
    }
}

void loops_run() {
    for (const Kind& kind : disturbed_kinds())
        for (bool disturbed : {false, true}) {
            if (kind.size > 33) continue;
            Kind threaded = kind;
            threaded.threads = 3;
            Disturbed x(kind, disturbed), y(threaded, disturbed);
            CHECK(same(x.looped(), y.looped()));
            CHECK(x.sample_value == y.sample_value && finite(x.sample_value));
        }
}

void a_loop_of_no_weights_is_no_loop() {
    Disturbed x({}, false), y({}, false);
    std::fill(x.loop.begin(), x.loop.end(), 0.0f);
    const Batch loop = x.looped(), forward = y.forward();
    CHECK(loop.size() > 0 && loop.start == forward.start && loop.unit == forward.unit);
    for (int64_t k = 0; k < loop.size(); ++k) CHECK(std::abs(loop.time[k] - forward.time[k]) < 1e-4 * x.duration);
}

void looking_changes_no_spike() {
    for (bool loop : {false, true}) {
        Disturbed x({}, true), y({}, true);
        y.sample_unit.clear();
        CHECK(loop ? same(x.looped(), y.looped()) : same(x.forward(), y.forward()));
    }
}

void the_silent_send_nothing() {
    Kind kind;
    kind.silent = kind.tonic = true;
    for (bool loop : {false, true}) {
        Disturbed x(kind, true);
        const Batch spikes = loop ? x.looped() : x.forward();
        CHECK(spikes.size() > 0);
        for (int64_t s = 0; s < kind.samples; ++s)
            for (int64_t k = spikes.start[s]; k < spikes.start[s + 1]; ++k) CHECK(!x.silent[s * kind.size + spikes.unit[k]]);
    }
}

void no_current_no_spike() {
    Disturbed x({}, true);
    std::fill(x.most.begin(), x.most.end(), 0.0);
    std::fill(x.noise.begin(), x.noise.end(), 0.0);
    CHECK(x.forward().size() == 0 && x.looped().size() == 0);
}

void an_explosion_is_told() {
    Kind kind;
    kind.tonic = true;
    for (bool loop : {false, true}) {
        Disturbed x(kind, true);
        Request limited = x.request();
        limited.spike_limit = 1;
        bool told = false;
        try {
            if (loop) disturbed_loop(x.dense(), x.loop.data(), x.neurons(), x.disturbance(), limited);
            else disturbed_forward(x.dense(), x.neurons(), x.disturbance(), limited);
        } catch (const Explosion& explosion) {
            told = explosion.sample == 0 && explosion.unit < kind.size;
        }
        CHECK(told);
    }
}

}  // namespace

std::vector<Case> disturbed_cases() {
    return {{"undisturbed they are the dense kernel", undisturbed_they_are_the_dense_kernel},
            {"everything disturbed runs", everything_disturbed_runs},
            {"disturbed loops run", loops_run},
            {"a loop of no weights is no loop", a_loop_of_no_weights_is_no_loop},
            {"looking changes no spike", looking_changes_no_spike},
            {"the silent send nothing", the_silent_send_nothing},
            {"no current, no spike", no_current_no_spike},
            {"a disturbed explosion is told", an_explosion_is_told}};
}

}  // namespace spikeloop::tests
