// Python's way to a step of training in one call: forward, a loss, back. Between two calls of the engine Python finds nothing of
// its own in the caches, and takes as long as a small network.
#include <utility>

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

// The spikes of a stage, and the loss's derivatives by their times.
struct Sent {
    Spikes spikes;
    Trains trains;
    std::vector<double> by_time;
    Sent(Spikes&& made, int64_t batch)
        : spikes(std::move(made)), trains{spikes.time.values.get(), spikes.unit.values.get(), spikes.start.values.get()},
          by_time(trains.start[batch] + 1, 0.0) {}  // never empty: without a place for it, it would not be wanted
};

// What the readout answers: its loss, and how many answers are right.
struct Answer {
    std::vector<double> peak_time, peak, by_peak;  // (batch, size)
    std::vector<uint8_t> silent;                   // (batch,): the label's unit is
    double loss = 0;
    int64_t right = 0;

    void of_peaks(double scale, int64_t batch, int64_t size, const int64_t* label) {
        by_peak.resize(peak.size());
        loss = cross_entropy(peak.data(), batch, size, label, scale, by_peak.data());
        for (int64_t b = 0; b < batch; ++b) {
            const double* row = peak.data() + b * size;
            right += std::max_element(row, row + size) - row == label[b];
        }
    }
    void of_first_spikes(const FirstSpikeLoss& by, Sent& sent, int64_t batch, int64_t size, const int64_t* label) {
        const Trains& t = sent.trains;
        silent.resize(batch);
        loss = by(t, batch, size, label, silent.data(), sent.by_time.data());
        for (int64_t b = 0; b < batch; ++b) right += t.start[b] < t.start[b + 1] && t.unit[t.start[b]] == label[b];
    }
};

template <class T>
std::vector<DenseStage<T>> stages_of(const std::vector<StepIn<T>>& in, int64_t batch, double duration, int64_t spike_limit, int threads) {
    std::vector<DenseStage<T>> out;
    for (const auto& [sources, neurons, spiking, silent, weight] : in) {
        DenseStage<T>& stage = out.emplace_back();
        stage.sources = dense_sources<T>(sources), stage.neurons = neurons_of(neurons, spiking);
        Request& request = stage.request;
        request.batch = batch, request.until = duration, request.silent = data(silent);
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

template <class T>
nb::object dense_step_door(const std::vector<StepIn<T>>& in, double duration, int64_t spike_limit, const LossIn& loss, int64_t readout,
                          const Array<const int64_t, 1>& label, double slope_floor, bool tell, int threads) {
    const int64_t batch = int64_t(label.shape(0));
    std::vector<DenseStage<T>> stages = stages_of(in, batch, duration, spike_limit, threads);
    check(in, readout, batch);
    const int64_t size = stages[readout].neurons.size;
    if (!std::all_of(label.data(), label.data() + batch, [=](int64_t unit) { return unit >= 0 && unit < size; })) return nb::none();
    std::vector<Sent> sent;
    Answer answer;
    int64_t spikes = 0, passed = 0, floored = 0;
    {
        nb::gil_scoped_release release;
        if (std::holds_alternative<double>(loss)) {
            answer.peak_time.resize(batch * size), answer.peak.resize(batch * size);
            stages[readout].request.peaks = {answer.peak_time.data(), answer.peak.data()};
        }
        const auto& found = dense_forward<T>(stages);
        for (size_t k = 0; k < stages.size(); ++k) {
            sent.emplace_back(collect(found[k], stages[k].neurons.size, std::nullopt, threads, std::is_same_v<T, float>), batch);
            spikes += sent[k].trains.start[batch];
        }
        if (const auto* scale = std::get_if<double>(&loss)) {
            answer.of_peaks(*scale, batch, size, label.data());
        } else {
            const auto& [tau0, tau1, alpha, steepest] = std::get<1>(loss);
            answer.of_first_spikes({tau0, tau1, alpha, steepest}, sent[readout], batch, size, label.data());
        }
        std::vector<DenseBack<T>> back = back_of(in, stages, sent, answer, readout, slope_floor);
        if (!back.empty()) dense_adjoint<T>(back);
        for (const auto& stage : back) passed += stage.slope.spikes, floored += stage.slope.acted;
    }
    const bool pushed = std::find(answer.silent.begin(), answer.silent.end(), 1) != answer.silent.end();
    nb::object trains = nb::none(), silent = nb::none();
    if (tell || pushed) {
        nb::list told;
        for (Sent& each : sent) told.append(each.spikes.to_python());
        trains = told;
    }
    if (pushed) {
        Made<uint8_t> made(batch);
        std::copy(answer.silent.begin(), answer.silent.end(), made.values.get());
        silent = made.to_python();
    }
    return nb::make_tuple(answer.loss, answer.right, spikes, passed, floored, trains, silent);
}

template <class T>
void define(nb::module_& m) {
    m.def("dense_step", &dense_step_door<T>, "stages"_a.noconvert(), "duration"_a, "spike_limit"_a, "loss"_a, "readout"_a, "label"_a.noconvert(), "slope_floor"_a,
          "tell"_a, "threads"_a);
}

}  // namespace

void define_step(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace spikeloop
