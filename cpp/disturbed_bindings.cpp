// Python's way to the disturbed kernels.
#include "disturbed.hpp"

#include "arguments.hpp"
#include "bus.hpp"
#include "results.hpp"
#include "threads.hpp"
#include "whole.hpp"

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

// When each event is passed on by its bus, in cycles, or a negative number: events come at any times, ascending in a run.
nb::object served(const TrainsIn& events, int64_t buses, double depth, int threads) {
    const auto& [time, bus, start] = events;
    Made<double> out(time.shape(0));
    {
        nb::gil_scoped_release release;
        with_buses(int64_t(start.shape(0)) - 1, buses, depth, int64_t(out.shape[0]), threads, [&](int64_t s, Buses& all) {
            for (int64_t e = start.data()[s]; e < start.data()[s + 1]; ++e) out[e] = all.pass(bus.data()[e], time.data()[e]);
        });
    }
    return out.to_python();
}

void hold_back_door(const Array<int64_t, 1>& cycle, const Array<const int64_t, 1>& start, int64_t depth) {
    hold_back(cycle.data(), start.data(), int64_t(start.shape(0)) - 1, depth);
}

nb::object normals(uint64_t key, int64_t count) {
    Made<double> out(count);
    Stream stream{key};
    for (int64_t k = 0; k < count; ++k) out[k] = stream.normal();
    return out.to_python();
}

// Readings 0..255 of potentials (batch, times, channels): slope x potential + base, with noise of `rms` from a stream per run.
nb::object converted(const Array<const double, 3>& potential, const Array<const double, 1>& slope, const Array<const double, 1>& base, double rms,
                     uint64_t key, int threads) {
    const int64_t runs = potential.shape(0), times = potential.shape(1), channels = potential.shape(2), each = times * channels;
    Made<uint8_t, 3> out(runs, times, channels);
    {
        nb::gil_scoped_release release;
        const double *v = potential.data(), *k = slope.data(), *c = base.data();
        uint8_t* __restrict reading = out.values.get();
        parallel_groups(runs, worthwhile(threads, 5.0 * double(runs * each)), 8, [=](int64_t run) {
            Stream random{keyed(key, uint64_t(run))};
            for (int64_t e = run * each; e < (run + 1) * each; e += channels)
                for (int64_t channel = 0; channel < channels; ++channel) {
                    const double noise = rms > 0 ? rms * random.normal() : 0.0;
                    const double value = std::clamp(k[channel] * v[e + channel] + c[channel] + noise, 0.0, 255.0);
                    reading[e + channel] = uint8_t(int(nearest_whole(value)));
                }
        });
    }
    return out.to_python();
}

}  // namespace

void define_disturbed(nb::module_& m) {
    m.def("disturbed_forward", &disturbed_door, "sources"_a, "loop"_a.none(), "neurons"_a.noconvert(), "disturbance"_a.noconvert(), "run"_a, "silent"_a.none(), "sampling"_a.none());
    m.def("served", &served, "events"_a, "buses"_a, "depth"_a, "threads"_a);
    m.def("hold_back", &hold_back_door, "cycle"_a.noconvert(), "start"_a.noconvert(), "depth"_a);
    m.def("keyed", &keyed, "key"_a, "coordinate"_a);
    m.def("normals", &normals, "key"_a, "count"_a);
    m.def("converted", &converted, "potential"_a.noconvert(), "slope"_a.noconvert(), "base"_a.noconvert(), "rms"_a, "key"_a, "threads"_a);
}

}  // namespace spikeloop
