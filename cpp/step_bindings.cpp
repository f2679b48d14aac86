// Python's way to steps of training in one call: forward, a loss, back, Adam. Between two calls of the engine Python finds nothing
// of its own in the caches, and takes as long as a small network; and threads that wait for it fall asleep.
#include <atomic>
#include <utility>

#include "adam.hpp"
#include "dense_arguments.hpp"
#include "losses.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

// sources, neurons, whether they spike; which of them may not (batch, size); by source, what dL/dweight is added to
template <class T>
using StepIn = std::tuple<std::vector<DenseIn<T>>, Array<const double, 2>, bool, Maybe<const uint8_t, 2>, std::vector<Maybe<T, 2>>>;
// the scale of the cross entropy of peaks; or tau0, tau1, alpha, steepest of that of first spikes
using LossIn = std::variant<double, std::tuple<double, double, double, double>>;
// weights, mean, square, gradient, steps taken
template <class T>
using MomentsIn = std::tuple<Array<T, 1>, Array<T, 1>, Array<T, 1>, Array<T, 1>, double>;
// beta1, beta2, epsilon, decay, maximise; the rate of each step; all arrays
template <class T>
using AdamIn = std::tuple<std::tuple<double, double, double, double, bool>, Array<const double, 1>, std::vector<MomentsIn<T>>>;

// The spikes of a stage, and the loss's derivatives by their times.
struct Sent {
    Spikes spikes;
    Trains trains;
    std::vector<double> by_time;
    Sent(Spikes&& made, int64_t batch)
        : spikes(std::move(made)), trains{spikes.time.values.get(), spikes.unit.values.get(), spikes.start.values.get()},
          by_time(trains.start[batch] + 1, 0.0) {}  // never empty: without a place for it, it would not be wanted
};

// What a step tells: its loss, how many answers are right, and how many spikes neurons sent.
struct Told {
    double loss = 0;
    int64_t right = 0, spikes = 0;
};

// What the readout answers.
struct Answer {
    std::vector<double> peak_time, peak, by_peak;  // (batch, size)
    std::vector<uint8_t> silent;                   // (batch,): the label's unit is

    void of_peaks(double scale, int64_t batch, int64_t size, const int64_t* label, Told& told) {
        by_peak.resize(peak.size());
        told.loss = cross_entropy(peak.data(), batch, size, label, scale, by_peak.data());
        for (int64_t b = 0; b < batch; ++b) {
            const double* row = peak.data() + b * size;
            told.right += std::max_element(row, row + size) - row == label[b];
        }
    }
    void of_first_spikes(const FirstSpikeLoss& by, Sent& sent, int64_t batch, int64_t size, const int64_t* label, Told& told) {
        const Trains& t = sent.trains;
        silent.resize(batch);
        told.loss = by(t, batch, size, label, silent.data(), sent.by_time.data());
        for (int64_t b = 0; b < batch; ++b) told.right += t.start[b] < t.start[b + 1] && t.unit[t.start[b]] == label[b];
    }
};

// For samples first .. first + batch.
template <class T>
std::vector<DenseStage<T>> stages_of(const std::vector<StepIn<T>>& in, int64_t first, int64_t batch, double duration, int64_t spike_limit,
                                     int threads) {
    std::vector<DenseStage<T>> out;
    for (const auto& [sources, neurons, spiking, silent, weight] : in) {
        DenseStage<T>& stage = out.emplace_back();
        stage.sources = dense_sources<T>(sources), stage.neurons = neurons_of(neurons, spiking);
        for (DenseSource<T>& source : stage.sources)
            if (source.stage < 0) source.trains.start += first;
        Request& request = stage.request;
        request.batch = batch, request.until = duration, request.silent = silent ? silent->data() + first * stage.neurons.size : nullptr;
        request.spike_limit = spike_limit, request.threads = threads;
    }
    return out;
}

// The adjoint of those stages of which a gradient is wanted, or which hear of one.
template <class T>
std::vector<DenseBack<T>> back_of(const std::vector<StepIn<T>>& in, const std::vector<DenseStage<T>>& stages, std::vector<Sent>& sent,
                                  const Answer& answer, int64_t readout, double slope_floor) {
    std::vector<DenseBack<T>> out;
    std::vector<bool> moves;  // of each stage: whether the times of its spikes matter
    for (size_t k = 0; k < stages.size(); ++k) {
        const Request& before = stages[k].request;
        DenseBack<T> back;
        back.sources = stages[k].sources, back.neurons = stages[k].neurons, back.weight = pointers(std::get<4>(in[k]));
        bool wanted = std::any_of(back.weight.begin(), back.weight.end(), [](const T* weight) { return weight != nullptr; });
        for (DenseSource<T>& source : back.sources) {
            const int64_t from = std::exchange(source.stage, -1);
            const bool moved = from >= 0 && moves[from];
            if (from >= 0) source.trains = sent[from].trains;
            back.time.push_back(nullptr), back.source_time.push_back(moved ? sent[from].by_time.data() : nullptr);
            wanted |= moved;
        }
        moves.push_back(wanted);
        if (!wanted) continue;
        Backward& request = back.request;
        request.batch = before.batch, request.duration = before.until, request.threads = before.threads;
        request.spikes = sent[k].trains, request.time_cotangent = sent[k].by_time.data();
        if (sent[k].spikes.current && stages[k].neurons.spiking) request.current = sent[k].spikes.current->values.get();
        request.slope_floor = slope_floor, request.want_neuron = false;
        if (int64_t(k) == readout && !answer.peak.empty()) {
            request.membrane.resize(before.batch);
            add_peaks(answer.peak_time.data(), answer.by_peak.data(), stages[k].neurons.size, request.membrane);
        }
        out.push_back(std::move(back));
    }
    return out;
}

template <class T>
void check(const std::vector<StepIn<T>>& in, int64_t readout, int64_t batch) {
    bool fits = readout >= 0 && readout < int64_t(in.size());
    for (size_t k = 0; k < in.size(); ++k)
        for (const auto& source : std::get<0>(in[k])) {
            const auto* trains = std::get_if<TrainsIn>(&std::get<0>(source));
            fits &= trains ? batch_of(*trains) == batch : uint64_t(std::get<int64_t>(std::get<0>(source))) < k;
        }
    if (!fits) throw std::invalid_argument("labels, drives and stages do not belong together");
}

// What all steps of a call have in common.
template <class T>
struct Descent {
    const std::vector<StepIn<T>>& in;
    const double duration;
    const int64_t spike_limit;
    const LossIn& loss;
    const int64_t readout;
    const int64_t* label;
    const double slope_floor;
    const int threads;
};

// One of them.
struct Step {
    Told told;
    std::vector<Sent> sent;  // of each stage
    Answer answer;
    bool pushes() const { return std::find(answer.silent.begin(), answer.silent.end(), 1) != answer.silent.end(); }
};

template <class T>
Step forward(const Descent<T>& all, std::vector<DenseStage<T>>& stages, int64_t first) {
    Step step;
    Answer& answer = step.answer;
    const Request& request = stages[0].request;
    const int64_t batch = request.batch, size = stages[all.readout].neurons.size, *label = all.label + first;
    const auto* scale = std::get_if<double>(&all.loss);
    if (scale) {
        answer.peak_time.resize(batch * size), answer.peak.resize(batch * size);
        stages[all.readout].request.peaks = {answer.peak_time.data(), answer.peak.data()};
    }
    const auto& found = dense_forward<T>(stages);
    for (size_t k = 0; k < stages.size(); ++k) {
        step.sent.emplace_back(collect(found[k], stages[k].neurons.size, std::nullopt, all.threads, std::is_same_v<T, float>), batch);
        step.told.spikes += step.sent[k].trains.start[batch];
    }
    if (scale) {
        answer.of_peaks(*scale, batch, size, label, step.told);
    } else {
        const auto& [tau0, tau1, alpha, steepest] = std::get<1>(all.loss);
        answer.of_first_spikes({tau0, tau1, alpha, steepest}, step.sent[all.readout], batch, size, label, step.told);
    }
    return step;
}

Adam constants_of(const std::tuple<double, double, double, double, bool>& in) {
    const auto& [beta1, beta2, epsilon, decay, maximise] = in;
    return {beta1, beta2, epsilon, decay, maximise};
}

// Of an array (rows, columns), `more` steps later.
template <class T>
Moments<T> moments_of(const MomentsIn<T>& in, int64_t rows, int64_t columns, int64_t more) {
    const auto& [weight, mean, square, gradient, steps] = in;
    for (const size_t size : {weight.size(), mean.size(), square.size(), gradient.size()})
        if (int64_t(size) != rows * columns) throw std::invalid_argument("weights, their moments and gradients are of different sizes");
    return {weight.data(), mean.data(), square.data(), gradient.data(), rows, columns, steps + double(more)};
}

// Of the arrays that belong to a stage of an adjoint, those that are `small` or those that are not, for step number `steps`.
template <class T>
std::vector<Moments<T>> moments_of(const DenseBack<T>& back, const std::vector<MomentsIn<T>>& arrays, bool small, int64_t steps) {
    constexpr int64_t kSmall = int64_t(1) << 18;  // numbers: beyond, blocks of columns would be far apart, and not in a cache
    std::vector<Moments<T>> out;
    for (size_t s = 0; s < back.sources.size(); ++s)
        for (const MomentsIn<T>& array : arrays)
            if (std::get<3>(array).data() == back.weight[s] && (int64_t(std::get<3>(array).size()) <= kSmall) == small)
                out.push_back(moments_of(array, back.sources[s].size, back.neurons.size, steps));
    return out;
}

// The adjoint, and a step of `in`, if it is given, number `steps` of the call: of small arrays block by block, as soon as a block's
// gradient is there, of others afterwards. Gradients are left as zeros then. Whether the weights are numbers after it.
template <class T>
bool backward(const Descent<T>& all, const std::vector<DenseStage<T>>& stages, Step& step, SlopeFloor& slope, const AdamIn<T>* in, int64_t steps) {
    std::vector<DenseBack<T>> back = back_of(all.in, stages, step.sent, step.answer, all.readout, all.slope_floor);
    std::atomic<bool> finite{true};
    const Adam adam = in ? constants_of(std::get<0>(*in)) : Adam{};
    const double rate = in ? std::get<1>(*in).data()[steps] : 0;
    const auto arrays = [&](const DenseBack<T>& of, bool small) { return in ? moments_of(of, std::get<2>(*in), small, steps) : std::vector<Moments<T>>{}; };
    for (DenseBack<T>& each : back)
        if (std::vector<Moments<T>> mine = arrays(each, true); !mine.empty())
            each.summed = [mine, adam, rate, &finite](int64_t first, int count) {
                for (const Moments<T>& of : mine) {
                    if (!update(adam, of, rate, first, count)) finite = false;
                    for (int64_t row = 0; row < of.rows; ++row) std::fill_n(of.gradient + row * of.columns + first, count, T(0));
                }
            };
    if (!back.empty()) dense_adjoint<T>(back);
    for (const DenseBack<T>& each : back) {
        slope.spikes += each.slope.spikes, slope.acted += each.slope.acted;
        for (const Moments<T>& of : arrays(each, false)) {
            if (!update(adam, of, rate, all.threads)) finite = false;
            std::fill_n(of.gradient, of.count(), T(0));
        }
    }
    return finite;
}

// One step of Adam alone.
template <class T>
void adam_step_door(const AdamIn<T>& adam, int threads) {
    nb::gil_scoped_release release;
    const auto& [constants, rates, arrays] = adam;
    for (const MomentsIn<T>& array : arrays) update(constants_of(constants), moments_of(array, 1, int64_t(std::get<0>(array).size()), 0), rates.data()[0], threads);
}

// Batches of `size` samples, one after the other, with a step of Adam after each; or only one, whose gradients wait, without `adam`,
// where Python is to `tell` of its spikes, or where a label's unit is silent. No further than a batch that fails, unless it is the
// first one: a label that names no unit, weights that are no numbers, an explosion. Those done, whether the last one's gradients wait,
// and of that one its spikes, and which labels' units were silent.
template <class T>
nb::object dense_steps_door(const std::vector<StepIn<T>>& in, double duration, int64_t spike_limit, const LossIn& loss, int64_t readout,
                            const Array<const int64_t, 1>& label, double slope_floor, bool tell, int threads, int64_t size,
                            const std::optional<AdamIn<T>>& adam) {
    const Descent<T> all{in, duration, spike_limit, loss, readout, label.data(), slope_floor, threads};
    const int64_t samples = int64_t(label.shape(0));
    check(in, readout, samples);
    if (size < 1 || (adam && int64_t(std::get<1>(*adam).size()) < (samples + size - 1) / size))
        throw std::invalid_argument("a batch without samples, or a step without a rate");
    const int64_t units = int64_t(std::get<1>(in[readout]).shape(1));
    const auto names_a_unit = [=](int64_t unit) { return unit >= 0 && unit < units; };
    std::vector<Told> done;
    Step last;
    SlopeFloor slope{slope_floor};
    bool waits = false;
    {
        nb::gil_scoped_release release;
        for (int64_t first = 0; first < samples && !waits; first += size) {
            const int64_t batch = std::min(size, samples - first);
            if (!std::all_of(all.label + first, all.label + first + batch, names_a_unit)) break;
            std::vector<DenseStage<T>> stages = stages_of(in, first, batch, duration, spike_limit, threads);
            try {
                last = forward(all, stages, first);
            } catch (const Explosion&) {
                if (done.empty()) throw;
                break;
            }
            waits = tell || !adam || last.pushes();
            const bool finite = backward(all, stages, last, slope, waits ? nullptr : &*adam, int64_t(done.size()));
            done.push_back(last.told);
            if (!finite) break;
        }
    }
    nb::list told;
    for (const Told& t : done) told.append(nb::make_tuple(t.loss, t.right, t.spikes));
    nb::object trains = nb::none(), silent = nb::none();
    if (waits && (tell || last.pushes())) {
        nb::list spikes;
        for (Sent& each : last.sent) spikes.append(each.spikes.to_python());
        trains = spikes;
    }
    if (waits && last.pushes()) {
        Made<uint8_t> made(int64_t(last.answer.silent.size()));
        std::copy(last.answer.silent.begin(), last.answer.silent.end(), made.values.get());
        silent = made.to_python();
    }
    return nb::make_tuple(told, nb::make_tuple(slope.spikes, slope.acted), waits, trains, silent);
}

template <class T>
void define(nb::module_& m) {
    m.def("dense_steps", &dense_steps_door<T>, "stages"_a.noconvert(), "duration"_a, "spike_limit"_a, "loss"_a, "readout"_a, "label"_a.noconvert(), "slope_floor"_a,
          "tell"_a, "threads"_a, "size"_a, "adam"_a.noconvert().none());
    m.def("adam_step", &adam_step_door<T>, "adam"_a.noconvert(), "threads"_a);
}

}  // namespace

void define_step(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace spikeloop
