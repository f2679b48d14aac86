// What the bindings of dense stages are handed by Python.
#pragma once
#include <nanobind/stl/variant.h>

#include <variant>

#include "dense.hpp"
#include "pass_arguments.hpp"

namespace spikeloop {

// trains, or which earlier stage of the call they come from; weights, delays
template <class T>
using DenseIn = std::tuple<std::variant<int64_t, TrainsIn>, Array<const T, 2>, Array<const double, 1>>;

template <class T>
std::vector<DenseSource<T>> dense_sources(const std::vector<DenseIn<T>>& in) {
    std::vector<DenseSource<T>> out;
    for (const auto& [from, weight, delay] : in) {
        DenseSource<T>& source = out.emplace_back();
        if (const auto* stage = std::get_if<int64_t>(&from))
            source.stage = *stage;
        else
            source.trains = trains_of(std::get<TrainsIn>(from));
        source.size = int64_t(weight.shape(0)), source.weight = weight.data();
        source.delay = delay.data(), source.delay_per_unit = delay.shape(0) > 1;
    }
    return out;
}

template <class A>
auto pointers(const std::vector<std::optional<A>>& arrays) {
    std::vector<decltype(data(arrays[0]))> out;
    for (const auto& array : arrays) out.push_back(data(array));
    return out;
}

}  // namespace spikeloop
