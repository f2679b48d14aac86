// Python's way to dense.hpp.
#include "dense_arguments.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

template <class T>
nb::list dense_forward_door(const std::vector<std::tuple<std::vector<DenseIn<T>>, Array<const double, 2>, bool, AskIn>>& in, int64_t batch,
                            double begin, double until, int64_t spike_limit, int threads) {
    std::vector<DenseStage<T>> stages;
    for (const auto& [sources, neurons, spiking, asked] : in) {
        const auto& [silent, start, end, from, to, sampling, peaks, count] = asked;
        stages.push_back({dense_sources<T>(sources), neurons_of(neurons, spiking),
                          {batch, begin, until, data(silent), state_of(start), state_of(end), anchors_of(from),
                           anchors_of(to), sampling_of(sampling), peaks_of(peaks), spike_limit, threads}});
    }
    std::vector<Spikes> out;
    {
        nb::gil_scoped_release release;
        const auto& spikes = dense_forward<T>(stages);
        for (size_t k = 0; k < stages.size(); ++k)
            out.push_back(collect(spikes[k], stages[k].neurons.size, data(count_of(std::get<3>(in[k]))), threads, std::is_same_v<T, float>));
    }
    nb::list result;
    for (Spikes& spikes : out) {
        nb::object current = nb::none();
        if (spikes.current) current = handed_over(std::move(spikes.current), std::array{size_t(spikes.size())});
        result.append(nb::make_tuple(handed_over(spikes), current));
    }
    return result;
}

template <class T>
using DenseBackIn = std::tuple<std::vector<DenseIn<T>>, Array<const double, 2>, bool, CotangentIn, Maybe<const float, 1>, std::vector<Maybe<T, 2>>,
                               std::vector<Maybe<double, 1>>, std::vector<Maybe<double, 1>>, bool, bool>;

template <class T>
nb::list dense_adjoint_door(const std::vector<DenseBackIn<T>>& in, int64_t batch, double begin, double duration, double slope_floor,
                           int threads) {
    std::vector<DenseBack<T>> stages;
    for (const auto& [sources, neurons, spiking, cotangent, current, weight, time, source_time, want_neuron, want_tau] : in) {
        DenseBack<T>& stage = stages.emplace_back();
        stage.sources = dense_sources<T>(sources), stage.neurons = neurons_of(neurons, spiking);
        stage.weight = pointers(weight), stage.time = pointers(time), stage.source_time = pointers(source_time);
        Backward& request = stage.request;
        request.batch = batch, request.begin = begin, request.duration = duration, request.spikes = trains_of(std::get<0>(cotangent));
        request.time_cotangent = std::get<1>(cotangent).data(), request.start = state_of(std::get<4>(cotangent));
        request.current = data(current);
        request.slope_floor = slope_floor, request.want_neuron = want_neuron, request.want_tau = want_tau, request.threads = threads;
    }
    {
        nb::gil_scoped_release release;
        for (size_t k = 0; k < stages.size(); ++k) stages[k].request.membrane = membranes_of(std::get<3>(in[k]), batch);
        dense_adjoint<T>(stages);
    }
    nb::list result;
    for (const auto& stage : stages) result.append(nb::make_tuple(neuron_gradients(stage.neuron), stage.slope.spikes, stage.slope.acted));
    return result;
}

template <class T>
void define(nb::module_& m) {
    m.def("dense_forward", &dense_forward_door<T>, "stages"_a.noconvert(), "batch"_a, "begin"_a, "until"_a, "spike_limit"_a, "threads"_a);
    m.def("dense_adjoint", &dense_adjoint_door<T>, "stages"_a.noconvert(), "batch"_a, "begin"_a, "duration"_a, "slope_floor"_a, "threads"_a);
}

}  // namespace

void define_dense(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace spikeloop
