// Python's way to what a chip draws and reads: random numbers, each from a stream of its own, and converters.
#include "arguments.hpp"
#include "noise.hpp"
#include "results.hpp"
#include "threads.hpp"
#include "whole.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

// The stream `coordinate` of the stream `key`, pair by pair.
nb::object keyed_each(const Array<const uint64_t, 1>& key, const Array<const uint64_t, 1>& coordinate) {
    if (key.size() != coordinate.size()) throw std::out_of_range("keys and coordinates do not go together");
    Made<uint64_t> out(key.size());
    for (size_t k = 0; k < key.size(); ++k) out[k] = keyed(key.data()[k], coordinate.data()[k]);
    return out.to_python();
}

double uniform_of(uint64_t stream, uint64_t number) { return Stream{stream, number - 1}.uniform(); }

// The `number`-th uniform number, from 1 on, of each stream.
nb::object uniforms_of(const Array<const uint64_t, 1>& stream, uint64_t number) {
    Made<double> out(stream.size());
    for (size_t k = 0; k < stream.size(); ++k) out[k] = uniform_of(stream.data()[k], number);
    return out.to_python();
}

// Likewise of each of the first `count` streams of `key`.
nb::object uniforms(uint64_t key, int64_t count, uint64_t number) {
    Made<double> out(count);
    for (int64_t k = 0; k < count; ++k) out[k] = uniform_of(keyed(key, uint64_t(k)), number);
    return out.to_python();
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

void define_chip(nb::module_& m) {
    m.def("keyed", &keyed, "key"_a, "coordinate"_a);
    m.def("keyed_each", &keyed_each, "key"_a.noconvert(), "coordinate"_a.noconvert());
    m.def("uniforms_of", &uniforms_of, "stream"_a.noconvert(), "number"_a);
    m.def("uniforms", &uniforms, "key"_a, "count"_a, "number"_a);
    m.def("normals", &normals, "key"_a, "count"_a);
    m.def("converted", &converted, "potential"_a.noconvert(), "slope"_a.noconvert(), "base"_a.noconvert(), "rms"_a, "key"_a, "threads"_a);
}

}  // namespace spikeloop
