// Python's way to descent.hpp: between two calls of the engine Python finds nothing of its own in the caches, and takes as long as a
// small network; and threads that wait for it fall asleep. So several steps are one call.
#include "dense_arguments.hpp"
#include "descent.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

// sources, neurons, whether they spike; which of them may not (samples, size); by source, what dL/dweight is added to
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

template <class T>
Learning<T> learning_of(const AdamIn<T>& in) {
    const auto& [constants, rate, arrays] = in;
    const auto& [beta1, beta2, epsilon, decay, maximise] = constants;
    Learning<T> out{{beta1, beta2, epsilon, decay, maximise}, rate.data(), {}};
    for (const auto& [weight, mean, square, gradient, steps] : arrays) {
        const size_t size = weight.size();
        if (mean.size() != size || square.size() != size || gradient.size() != size) throw std::invalid_argument("weights and their moments are of different sizes");
        out.arrays.push_back({weight.data(), mean.data(), square.data(), gradient.data(), 1, int64_t(size), steps});
    }
    return out;
}

// One step of Adam alone.
template <class T>
void adam_step_door(const AdamIn<T>& adam, int threads) {
    const Learning<T> learning = learning_of(adam);
    nb::gil_scoped_release release;
    for (const Moments<T>& of : learning.arrays) update(learning.adam, of, learning.rate[0], threads);
}

template <class T>
DescentStage<T> stage_of(const StepIn<T>& in, int64_t samples) {
    const auto& [sources, neurons, spiking, silent, gradient] = in;
    for (const auto& source : sources)
        if (const auto* trains = std::get_if<TrainsIn>(&std::get<0>(source)); trains && batch_of(*trains) != samples)
            throw std::invalid_argument("labels and drives do not belong together");
    return {dense_sources<T>(sources), neurons_of(neurons, spiking), data(silent), pointers(gradient)};
}

// See `Descent` and `descend`. By step its loss, how many were right and how many spikes there were; slopes; whether the last one's
// gradients wait, its spikes, and which labels' units were silent.
template <class T>
nb::object dense_steps_door(const std::vector<StepIn<T>>& in, double duration, int64_t spike_limit, const LossIn& loss, int64_t readout,
                            const Array<const int64_t, 1>& label, double slope_floor, bool tell, int threads, int64_t size,
                            const std::optional<AdamIn<T>>& adam) {
    const int64_t samples = int64_t(label.shape(0));
    Descent<T> down{{}, samples, size, duration, spike_limit, {}, readout, label.data(), slope_floor, tell, threads, {}};
    for (const StepIn<T>& stage : in) down.stages.push_back(stage_of<T>(stage, samples));
    if (const auto* scale = std::get_if<double>(&loss)) {
        down.loss = PeaksLoss{*scale};
    } else {
        const auto& [tau0, tau1, alpha, steepest] = std::get<1>(loss);
        down.loss = FirstSpikeLoss{tau0, tau1, alpha, steepest};
    }
    if (adam) down.learning = learning_of(*adam);
    if (adam && size > 0 && int64_t(std::get<1>(*adam).size()) < (samples + size - 1) / size) throw std::invalid_argument("a step without a rate");
    Descended found = [&] {
        nb::gil_scoped_release release;
        return descend(down);
    }();
    nb::list told;
    for (const Told& t : found.told) told.append(nb::make_tuple(t.loss, t.right, t.spikes));
    nb::object trains = nb::none(), silent = nb::none();
    if (!found.spikes.empty()) {
        nb::list spikes;
        for (Spikes& each : found.spikes) spikes.append(handed_over(each));
        trains = spikes;
    }
    if (!found.silent.empty()) {
        Made<uint8_t> made(found.silent.size());
        std::copy(found.silent.begin(), found.silent.end(), made.values.get());
        silent = made.to_python();
    }
    return nb::make_tuple(told, nb::make_tuple(found.slope.spikes, found.slope.acted), found.waits, trains, silent);
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
