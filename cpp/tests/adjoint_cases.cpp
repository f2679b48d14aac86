// The adjoint kernels on random problems.
#include "checks.hpp"
#include "problem.hpp"

namespace spikeloop::tests {
namespace {

// A loss that looks at everything: cotangents of 1 on every spike time, every sample and every peak.
template <class T>
struct Look {
    Batch spikes;
    std::vector<double> time_cotangent;
    std::vector<std::vector<MembraneCotangent>> membrane;

    Look(Problem<T>& x, const SpikesPerSample& seen) : spikes(to_batch(seen)) {
        time_cotangent.assign(spikes.time.size(), 1.0);
        membrane.resize(x.kind.samples);
        for (int64_t s = 0; s < x.kind.samples; ++s) {
            for (int64_t k = 0; k < 7; ++k)
                for (int32_t m : x.sample_unit) membrane[s].push_back({x.sampling().times(s)[k], m, 1.0, false});
            for (int64_t m = 0; m < x.kind.size; ++m) {
                const int64_t slot = s * x.kind.size + m;
                membrane[s].push_back({x.peak_time[slot], int32_t(m), 1.0, true});
            }
        }
    }
};

// Every gradient of the problem, from the dense kernel.
template <class T>
struct Slope {
    std::vector<T> weight;
    std::vector<double> time;
    std::vector<NeuronGradient> neuron;
    SlopeFloor slope{0};

    Slope(Problem<T>& x, int threads) : weight(x.weight.size()), time(x.drive.time.size()) {
        Look<T> look(x, x.forward());
        Backward request;
        request.batch = x.kind.samples, request.duration = x.duration;
        request.spikes = look.spikes.trains(), request.time_cotangent = look.time_cotangent.data();
        request.membrane = look.membrane, request.start = x.started();
        request.want_tau = true, request.threads = threads;
        std::vector<DenseBack<T>> stages{{x.dense(), x.neurons(), request, {weight.data()}, {time.data()}, {nullptr}, {}}};
        dense_adjoint(stages);
        neuron = stages[0].neuron, slope = stages[0].slope;
    }
};

void dense_gradients_are_finite() {
    for (const Kind& kind : kinds()) {
        Problem<double> x(kind);
        const Slope<double> slope(x, kind.threads);
        for (double w : slope.weight) CHECK(std::isfinite(w));
        for (double t : slope.time) CHECK(std::isfinite(t));
        for (const NeuronGradient& g : slope.neuron) CHECK(std::isfinite(g.tau_mem + g.tau_syn + g.leak + g.reset));
        Problem<float> y(kind);
        const Slope<float> single(y, kind.threads);
    }
}

// The same gradients and more, event by event.
template <class T>
struct QueueSlope {
    std::vector<std::vector<T>> weight;
    std::vector<std::vector<double>> delay;
    std::vector<double> time;
    QueueGradient<T> gradient;

    QueueSlope(Problem<T>& x, const std::vector<QueueSource<T>>& sources, int threads) : time(x.drive.time.size()) {
        Look<T> look(x, queue_forward(sources, x.populations(), x.queue_request()));
        QueueAdjointRequest request;
        request.batch = x.kind.samples, request.size = x.kind.size, request.duration = x.duration;
        request.want_tau = true, request.threads = threads;
        for (const auto& source : sources) weight.emplace_back(source.weights), delay.emplace_back(source.begin[source.size]);
        for (size_t k = 0; k < sources.size(); ++k) {
            gradient.weight.push_back(weight[k].data()), gradient.delay.push_back(delay[k].data());
            gradient.time.push_back(sources[k].internal ? nullptr : time.data());
        }
        const std::vector<QueueBackward> cotangents = {{look.spikes.trains(), look.time_cotangent.data(), look.membrane}};
        queue_adjoint(sources, x.populations(), cotangents, request, gradient);
    }
};

template <class T>
bool similar(const std::vector<T>& x, const std::vector<T>& y) {
    double difference = 0, norm = 0;
    for (size_t k = 0; k < x.size(); ++k) difference += (x[k] - y[k]) * (x[k] - y[k]), norm += x[k] * x[k];
    return x.size() == y.size() && difference <= 1e-12 * norm;
}

std::vector<double> numbers(const std::vector<NeuronGradient>& neurons) {
    std::vector<double> all;
    for (const NeuronGradient& g : neurons) all.insert(all.end(), {g.tau_mem, g.tau_syn, g.threshold, g.leak, g.reset, g.refractory});
    return all;
}

void the_kernels_agree() {
    for (const Kind& kind : kinds()) {
        Problem<double> x(kind), y(kind);
        const Slope<double> dense(x, kind.threads);
        const QueueSlope<double> queue(y, y.sparse(), kind.threads);
        CHECK(similar(dense.weight, queue.weight[0]));
        CHECK(similar(dense.time, queue.time));
        CHECK(similar(numbers(dense.neuron), numbers(queue.gradient.neuron)));
        CHECK(dense.slope.spikes == queue.gradient.slope.spikes);
        Problem<float> z(kind);
        const QueueSlope<float> single(z, z.sparse(), kind.threads);
    }
}

void a_loop_has_gradients() {
    Kind kind;
    kind.samples = 9;
    Problem<double> x(kind);
    const Loop<double> loop(x);
    const QueueSlope<double> one(x, loop.sources, 1), three(x, loop.sources, 3);
    CHECK(one.weight == three.weight && one.delay == three.delay && one.time == three.time);
    for (double w : one.weight[1]) CHECK(std::isfinite(w) && w != 0);
}

// A loss of the times of spikes, whose currents are known: what the kernel takes back spike by spike, and neuron by neuron where
// these want gradients of their own. `apart`: the arrivals are those of two sources, one of which is silent.
template <class T>
struct OfSpikes {
    std::vector<T> weight;
    std::vector<double> cotangent, time;
    SlopeFloor slope{0};

    OfSpikes(const Problem<T>& x, const SpikesPerSample& seen, bool want_neuron, bool want_time, bool apart = false)
        : weight(x.weight.size()), time(x.drive.time.size()) {
        const Batch spikes = to_batch(seen);
        std::vector<float> current;
        for (const auto& sample : seen)
            for (const Spike& spike : sample) current.push_back(spike.current), cotangent.push_back(1 + 0.5 * std::sin(double(current.size())));
        cotangent.push_back(0);  // never empty
        Backward request;
        request.batch = x.kind.samples, request.duration = x.duration, request.spikes = spikes.trains(), request.threads = x.kind.threads;
        request.current = current.data(), request.time_cotangent = cotangent.data(), request.slope_floor = 0.1, request.want_neuron = want_neuron;
        std::vector<DenseBack<T>> stages{{x.dense(), x.neurons(), request, {weight.data()}, {want_time ? time.data() : nullptr}, {nullptr}, {}}};
        const Batch none{{}, {}, std::vector<int64_t>(x.kind.samples + 1)};
        if (apart) {
            DenseBack<T>& stage = stages[0];
            stage.sources.push_back(x.dense(none)[0]);
            stage.weight.push_back(nullptr), stage.time.push_back(nullptr), stage.source_time.push_back(nullptr);
        }
        dense_adjoint(stages);
        slope = stages[0].slope;
    }
    bool operator==(const OfSpikes& o) const { return weight == o.weight && cotangent == o.cotangent && time == o.time; }
};

// Few arrivals and many spikes, and many arrivals; neurons that spike often, and before any arrival.
void spikes_alone_go_back_as_marks_do() {
    bool often = false, early = false, floored = false;
    for (Kind kind : kinds())
        for (const int64_t events : {0, 1, 4, 30}) {
            if (kind.duration > 1 || (kind.events != events && kind.size > 48)) continue;
            kind.events = events, kind.spiking = true;
            Problem<double> x(kind);
            std::fill(x.refractory.begin(), x.refractory.end(), 0.0);
            if (kind.size % 2) {
                std::fill(x.tau_mem.begin(), x.tau_mem.end(), x.tau_mem[0]);
                std::fill(x.tau_syn.begin(), x.tau_syn.end(), x.tau_mem[0] / 4);
            }
            const SpikesPerSample seen = x.forward(bare(x));
            for (const bool want_time : {false, true}) {
                const OfSpikes<double> spikes(x, seen, false, want_time), marks(x, seen, true, want_time), two(x, seen, false, want_time, true);
                CHECK(similar(spikes.weight, marks.weight) && similar(spikes.cotangent, marks.cotangent) && similar(spikes.time, marks.time));
                CHECK(spikes.slope.acted == marks.slope.acted && spikes.slope.spikes == marks.slope.spikes);
                CHECK(spikes == two);
                floored |= spikes.slope.acted > 0;
            }
            for (size_t s = 0; s < seen.size(); ++s)
                for (size_t k = 1; k < seen[s].size(); ++k) {
                    early |= x.drive.start[s + 1] > x.drive.start[s] && seen[s][k].time < x.drive.time[x.drive.start[s]];
                    often |= seen[s][k].unit == seen[s][k - 1].unit;
                }
        }
    CHECK(often && early && floored);
}

void threads_change_no_gradient() {
    Kind kind;
    kind.samples = 9, kind.size = 40;
    Problem<float> x(kind);
    const Slope<float> one(x, 1), three(x, 3);
    CHECK(one.weight == three.weight && one.time == three.time);
}

void stages_go_back_together() {
    Kind first, second;
    second.inputs = first.size;
    const Problem<double> x(first), y(second);
    const Batch early = to_batch(x.forward(bare(x))), late = to_batch(y.after(early));
    const auto gradient = [&](bool together) {
        std::vector<double> one(x.weight.size()), two(y.weight.size()), between(early.time.size()), loss(late.time.size(), 1.0);
        const auto request = [&](const Batch& spikes, std::vector<double>& time) {
            Backward made;
            made.batch = first.samples, made.duration = x.duration, made.spikes = spikes.trains(), made.time_cotangent = time.data();
            return made;
        };
        std::vector<DenseBack<double>> stages{
            {x.dense(), x.neurons(), request(early, between), {one.data()}, {nullptr}, {nullptr}, {}},
            {y.dense(early), y.neurons(), request(late, loss), {two.data()}, {nullptr}, {between.data()}, {}}};
        if (together) {
            dense_adjoint(stages);
        } else {
            std::vector<DenseBack<double>> last{stages[1]}, before{stages[0]};
            dense_adjoint(last), dense_adjoint(before);
        }
        one.insert(one.end(), two.begin(), two.end()), one.insert(one.end(), between.begin(), between.end());
        return one;
    };
    CHECK(late.size() > 0);
    CHECK(gradient(true) == gradient(false));
}

}  // namespace

std::vector<Case> adjoint_cases() {
    return {{"dense gradients are finite", dense_gradients_are_finite},
            {"the adjoint kernels agree", the_kernels_agree},
            {"a loop has gradients", a_loop_has_gradients},
            {"spikes alone go back as marks do", spikes_alone_go_back_as_marks_do},
            {"threads change no gradient", threads_change_no_gradient},
            {"stages go back together", stages_go_back_together}};
}

}  // namespace spikeloop::tests
