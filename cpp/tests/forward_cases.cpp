// Both forward kernels on the same random problems: their arrays are not overrun, and they agree.
#include "checks.hpp"
#include "problem.hpp"

namespace spikeloop::tests {
namespace {

bool close(const std::vector<double>& x, const std::vector<double>& y, double tolerance) {
    for (size_t k = 0; k < x.size(); ++k)
        if (!(std::abs(x[k] - y[k]) <= tolerance)) return false;
    return x.size() == y.size();
}

void the_kernels_agree() {
    for (const Kind& kind : kinds()) {
        Problem<double> x(kind), y(kind);
        const auto sources = y.sparse();
        const Batch dense = to_batch(x.forward());
        const Batch queue = to_batch(queue_forward(sources, y.populations(), y.queue_request()));
        CHECK(dense.start == queue.start);
        CHECK(dense.unit == queue.unit);
        CHECK(close(dense.time, queue.time, 1e-9));
        CHECK(close(x.sample_value, y.sample_value, 1e-7));
        CHECK(close(x.peak_value, y.peak_value, 1e-7));
        for (int k = 0; k < 3; ++k) CHECK(close(x.end[k], y.end[k], 1e-7));
    }
}

void single_precision_runs() {
    for (const Kind& kind : kinds()) {
        Problem<float> x(kind), y(kind);
        const auto sources = y.sparse();
        CHECK(int64_t(x.forward().size()) == kind.samples);
        CHECK(int64_t(queue_forward(sources, y.populations(), y.queue_request()).size()) == kind.samples);
    }
}

void threads_change_nothing() {
    Kind one, three;
    one.samples = three.samples = 9, three.threads = 3;
    Problem<float> x(one), y(three);
    const Batch a = to_batch(x.forward());
    const Batch b = to_batch(y.forward());
    CHECK(a.time == b.time && a.unit == b.unit && a.start == b.start);
    CHECK(x.sample_value == y.sample_value && x.peak_value == y.peak_value);
}

void an_explosion_is_told() {
    for (int threads : {1, 3}) {
        Kind kind;
        kind.tonic = true, kind.threads = threads;
        Problem<double> x(kind);
        Request limited = x.request();
        limited.spike_limit = 1;
        bool told = false;
        try {
            x.forward(limited);
        } catch (const Explosion& explosion) {
            told = explosion.sample == 0 && explosion.unit < kind.size;
        }
        CHECK(told);
    }
}

void stages_run_together() {
    Kind first, second;
    second.inputs = first.size, first.threads = 3;
    const Problem<double> x(first), y(second);
    const Batch early = to_batch(x.forward(bare(x))), late = to_batch(y.after(early));
    auto source = y.dense(early)[0];
    source.stage = 0;
    const auto& spikes = dense_forward<double>({{x.dense(), x.neurons(), bare(x)}, {{source}, y.neurons(), bare(y)}});
    const Batch both[] = {to_batch(spikes[0]), to_batch(spikes[1])};
    CHECK(late.size() > 0);
    CHECK(both[0].time == early.time && both[0].unit == early.unit && both[0].start == early.start);
    CHECK(both[1].time == late.time && both[1].unit == late.unit && both[1].start == late.start);
}

void a_loop_runs() {
    Problem<double> x({});
    const Loop<double> loop(x);
    const Batch once = to_batch(queue_forward(loop.sources, x.populations(), x.queue_request()));
    auto threaded = x.queue_request();
    threaded.threads = 3;
    const Batch again = to_batch(queue_forward(loop.sources, x.populations(), threaded));
    CHECK(once.size() > 0);
    CHECK(once.time == again.time && once.unit == again.unit);
}

}  // namespace

std::vector<Case> forward_cases() {
    return {{"the forward kernels agree", the_kernels_agree},
            {"single precision runs", single_precision_runs},
            {"threads change nothing", threads_change_nothing},
            {"an explosion is told", an_explosion_is_told},
            {"stages run together", stages_run_together},
            {"a loop with delays runs", a_loop_runs}};
}

void read_out_of_bounds() {
    Problem<float> x({});
    x.drive.unit.back() = int32_t(x.kind.inputs);  // no such input line: its weights lie past the end
    x.forward();
}

}  // namespace spikeloop::tests
