// What several of the bindings are handed by Python, as the kernels' views of it.
#pragma once
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "numpy_array.hpp"
#include "stage.hpp"

namespace spikeloop {

template <class T, int D>
using Maybe = std::optional<Array<T, D>>;

// times, units, start of each sample
using TrainsIn = std::tuple<Array<const double, 1>, Array<const int32_t, 1>, Array<const int64_t, 1>>;
// times, values (batch, neurons)
using PeaksIn = std::tuple<Array<double, 2>, Array<double, 2>>;
// times (1 or batch rows), units, values (batch, times, units)
using SamplingIn = std::tuple<Array<const double, 2>, Array<const int32_t, 1>, Array<double, 3>>;

template <class A>
auto data(const std::optional<A>& array) { return array ? array->data() : nullptr; }

inline Trains trains_of(const TrainsIn& in) { return {std::get<0>(in).data(), std::get<1>(in).data(), std::get<2>(in).data()}; }

inline int64_t batch_of(const TrainsIn& in) { return int64_t(std::get<2>(in).size()) - 1; }

inline Peaks peaks_of(const std::optional<PeaksIn>& in) {
    if (!in) return {};
    return {std::get<0>(*in).data(), std::get<1>(*in).data()};
}

inline Sampling sampling_of(const std::optional<SamplingIn>& in) {
    if (!in) return {};
    const auto& [time, unit, value] = *in;
    return {time.data(), int64_t(time.shape(1)), time.shape(0) > 1, unit.data(), int64_t(unit.shape(0)), value.data()};
}

// in: (6, neurons), as `Neurons` has them.
inline Neurons neurons_of(const Array<const double, 2>& in, bool spiking) {
    const int64_t n = int64_t(in.shape(1));
    const double* p = in.data();
    return {n, p, p + n, p + 2 * n, p + 3 * n, p + 4 * n, p + 5 * n, spiking};
}

}  // namespace spikeloop
