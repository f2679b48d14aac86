// Python's way to the disturbed kernels.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bus.hpp"
#include "disturbed.hpp"
#include "numpy_array.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

using TrainsIn = std::tuple<Array<const double, 1>, Array<const int32_t, 1>, Array<const int64_t, 1>>;
using SourceIn = std::tuple<TrainsIn, Array<const float, 2>>;
// times (batch rows), units, values (batch, times, units)
using SamplingIn = std::tuple<Array<const double, 2>, Array<const int32_t, 1>, Array<double, 3>>;
// batch, duration, tick, key, spike limit, threads
using RunIn = std::tuple<int64_t, double, double, uint64_t, int64_t, int>;

template <class T>
nb::object owned(std::vector<T>&& values) {
    auto* kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::cast(nb::ndarray<T, nb::numpy>(kept->data(), {kept->size()}, owner));
}

nb::tuple to_python(const SpikesPerSample& spikes) {
    std::vector<double> time;
    std::vector<int32_t> unit;
    std::vector<int64_t> start{0};
    size_t total = 0;
    for (const auto& sample : spikes) total += sample.size();
    time.reserve(total), unit.reserve(total), start.reserve(spikes.size() + 1);
    for (const auto& sample : spikes) {
        for (const Spike& spike : sample) time.push_back(spike.time), unit.push_back(spike.unit);
        start.push_back(int64_t(time.size()));
    }
    return nb::make_tuple(owned(std::move(time)), owned(std::move(unit)), owned(std::move(start)));
}

nb::tuple disturbed_door(const std::vector<SourceIn>& sources, const std::optional<Array<const float, 2>>& loop, const Array<const double, 2>& neurons,
                         const Array<const double, 2>& disturbance, const RunIn& run, const std::optional<Array<const uint8_t, 2>>& silent,
                         const std::optional<SamplingIn>& sampling) {
    const double none = 0;
    std::vector<DenseSource<float>> in;
    for (const auto& [trains, weight] : sources)
        in.push_back({{std::get<0>(trains).data(), std::get<1>(trains).data(), std::get<2>(trains).data()},
                      int64_t(weight.shape(0)), weight.data(), &none, false});
    const int64_t n = int64_t(neurons.shape(1));
    const double *p = neurons.data(), *d = disturbance.data();
    const Neurons population{n, p, p + n, p + 2 * n, p + 3 * n, p + 4 * n, p + 5 * n, true};
    const auto& [batch, duration, tick, key, spike_limit, threads] = run;
    Request request;
    request.batch = batch, request.until = duration, request.spike_limit = spike_limit, request.threads = threads;
    request.silent = silent ? silent->data() : nullptr;
    if (sampling) {
        const auto& [time, unit, value] = *sampling;
        request.sampling = {time.data(), int64_t(time.shape(1)), time.shape(0) > 1, unit.data(), int64_t(unit.shape(0)), value.data()};
    }
    const Disturbance disturbed{d, d + n, d + 2 * n, d + 3 * n, d + 4 * n, key, tick};
    const auto spikes = [&]() -> const SpikesPerSample& {
        nb::gil_scoped_release release;
        return loop ? disturbed_loop(in, loop->data(), population, disturbed, request) : disturbed_forward(in, population, disturbed, request);
    };
    return to_python(spikes());
}

// cycles, addresses, start of each run
using SentIn = std::tuple<Array<const int64_t, 1>, Array<const int64_t, 1>, Array<const int64_t, 1>>;

// Seconds at which each event has come in by its link (address >> 14), before `end` cycles are over, or a negative number; and
// how many of a run have not, added to `lost`. depth: how many may wait at a link; without links nobody
// has to.
nb::object arrived(const SentIn& events, int64_t links, double depth, double period, double end, const Array<int64_t, 1>& lost, int threads) {
    const auto& [cycle, address, start] = events;
    std::vector<double> out(cycle.shape(0));
    {
        nb::gil_scoped_release release;
        with_buses(int64_t(start.shape(0)) - 1, links, depth, int64_t(out.size()), threads, [&](int64_t s, Buses& all) {
            for (int64_t e = start.data()[s]; e < start.data()[s + 1]; ++e) {
                const double sent = double(cycle.data()[e]), time = links > 0 ? all.pass(int32_t(address.data()[e] >> 14), sent) : sent;
                const bool comes = time >= 0 && time < end;
                lost.data()[s] += !comes, out[e] = comes ? time * period : -1;
            }
        });
    }
    return owned(std::move(out));
}

// When each event is passed on by its bus, in cycles, or a negative number: events come at any times, ascending in a run.
nb::object served(const TrainsIn& events, int64_t buses, double depth, int threads) {
    const auto& [time, bus, start] = events;
    std::vector<double> out(time.shape(0));
    {
        nb::gil_scoped_release release;
        with_buses(int64_t(start.shape(0)) - 1, buses, depth, int64_t(out.size()), threads, [&](int64_t s, Buses& all) {
            for (int64_t e = start.data()[s]; e < start.data()[s + 1]; ++e) out[e] = all.pass(bus.data()[e], time.data()[e]);
        });
    }
    return owned(std::move(out));
}

void hold_back_door(const Array<int64_t, 1>& cycle, const Array<const int64_t, 1>& start, int64_t depth) {
    hold_back(cycle.data(), start.data(), int64_t(start.shape(0)) - 1, depth);
}

// late (or none), sends, bus of each unit (or none), number of buses, depth, cycle, duration
using ExitIn = std::tuple<std::optional<Array<const double, 1>>, Array<const uint8_t, 1>, std::optional<Array<const int32_t, 1>>, int64_t, double, double, double>;

nb::tuple leave_door(const TrainsIn& spikes, const ExitIn& exit, const Array<int64_t, 1>& lost, int threads) {
    const auto& [late, sends, bus, buses, depth, cycle, duration] = exit;
    const auto& [time, unit, start] = spikes;
    const Exit out{late ? late->data() : nullptr, sends.data(), bus ? bus->data() : nullptr, buses, depth, cycle, duration};
    const auto left = [&]() -> const SpikesPerSample& {
        nb::gil_scoped_release release;
        return leave({time.data(), unit.data(), start.data()}, int64_t(start.shape(0)) - 1, out, lost.data(), threads);
    };
    return to_python(left());
}

nb::object normals(uint64_t key, int64_t count) {
    std::vector<double> out(count);
    Stream stream{key};
    for (double& x : out) x = stream.normal();
    return owned(std::move(out));
}

inline constexpr double kWhole = 0x1.8p52;  // added and taken away, it leaves the nearest whole number

// Readings 0..255 of potentials (batch, times, channels): slope x potential + base, with noise of `rms` from a stream per run.
nb::object converted(const Array<const double, 3>& potential, const Array<const double, 1>& slope, const Array<const double, 1>& base, double rms,
                     uint64_t key, int threads) {
    const int64_t runs = potential.shape(0), times = potential.shape(1), channels = potential.shape(2), each = times * channels;
    auto* out = new std::vector<uint8_t>(runs * each);
    nb::capsule owner(out, [](void* p) noexcept { delete static_cast<std::vector<uint8_t>*>(p); });
    {
        nb::gil_scoped_release release;
        const double *v = potential.data(), *k = slope.data(), *c = base.data();
        uint8_t* __restrict reading = out->data();
        parallel_for(runs, worthwhile(threads, 5.0 * double(runs * each)), 8, [=](int64_t run) {
            Stream random{keyed(key, uint64_t(run))};
            for (int64_t e = run * each; e < (run + 1) * each; e += channels)
                for (int64_t channel = 0; channel < channels; ++channel) {
                    const double noise = rms > 0 ? rms * random.normal() : 0.0;
                    const double value = std::clamp(k[channel] * v[e + channel] + c[channel] + noise, 0.0, 255.0);
                    reading[e + channel] = uint8_t(int((value + kWhole) - kWhole));
                }
        });
    }
    return nb::cast(nb::ndarray<uint8_t, nb::numpy>(out->data(), {size_t(runs), size_t(times), size_t(channels)}, owner));
}

}  // namespace

void define_disturbed(nb::module_& m) {
    m.def("disturbed_forward", &disturbed_door, "sources"_a, "loop"_a.none(), "neurons"_a, "disturbance"_a, "run"_a, "silent"_a.none(), "sampling"_a.none());
    m.def("arrived", &arrived, "events"_a, "links"_a, "depth"_a, "period"_a, "end"_a, "lost"_a, "threads"_a);
    m.def("served", &served, "events"_a, "buses"_a, "depth"_a, "threads"_a);
    m.def("hold_back", &hold_back_door, "cycle"_a, "start"_a, "depth"_a);
    m.def("leave", &leave_door, "spikes"_a, "exit"_a, "lost"_a, "threads"_a);
    m.def("keyed", &keyed, "key"_a, "coordinate"_a);
    m.def("normals", &normals, "key"_a, "count"_a);
    m.def("converted", &converted, "potential"_a, "slope"_a, "base"_a, "rms"_a, "key"_a, "threads"_a);
}

}  // namespace spikeloop
