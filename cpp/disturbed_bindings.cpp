// Python's way to the disturbed kernels.
#include "disturbed.hpp"

#include "arguments.hpp"
#include "results.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

using SourceIn = std::tuple<TrainsIn, Array<const float, 2>>;
// batch, duration, tick, key, spike limit, threads
using RunIn = std::tuple<int64_t, double, double, uint64_t, int64_t, int>;

nb::tuple disturbed_door(const std::vector<SourceIn>& sources, const Maybe<const float, 2>& loop, const Array<const double, 2>& neurons,
                         const Array<const double, 2>& disturbance, const RunIn& run, const Maybe<const uint8_t, 2>& silent,
                         const std::optional<SamplingIn>& sampling) {
    const double none = 0;
    std::vector<DenseSource<float>> in;
    for (const auto& [trains, weight] : sources) in.push_back({trains_of(trains), int64_t(weight.shape(0)), weight.data(), &none, false});
    const Neurons population = neurons_of(neurons, true);
    const auto& [batch, duration, tick, key, spike_limit, threads] = run;
    Request request;
    request.batch = batch, request.until = duration, request.spike_limit = spike_limit, request.threads = threads;
    request.silent = data(silent), request.sampling = sampling_of(sampling);
    const int64_t n = population.size;
    const double* d = disturbance.data();
    const Disturbance disturbed{d, d + n, d + 2 * n, d + 3 * n, d + 4 * n, key, tick};
    Spikes spikes = [&] {
        nb::gil_scoped_release release;
        return collect(loop ? disturbed_loop(in, loop->data(), population, disturbed, request) : disturbed_forward(in, population, disturbed, request), n, nullptr,
                       request.threads);
    }();
    return handed_over(spikes);
}

}  // namespace

void define_disturbed(nb::module_& m) {
    m.def("disturbed_forward", &disturbed_door, "sources"_a, "loop"_a.none(), "neurons"_a.noconvert(), "disturbance"_a.noconvert(), "run"_a, "silent"_a.none(), "sampling"_a.none());
}

}  // namespace spikeloop
