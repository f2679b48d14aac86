// What Python is handed: arrays of its own, and spikes in them.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <memory>

#include "spikes.hpp"

namespace spikeloop {

// `values`, in as many dimensions as `shape` has; Python frees them.
template <class T, size_t D>
nanobind::object handed_over(std::unique_ptr<T[]> values, const std::array<size_t, D>& shape) {
    T* data = values.release();
    nanobind::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return nanobind::cast(nanobind::ndarray<T, nanobind::numpy>(data, D, shape.data(), owner));
}

// An array of D dimensions that Python gets, not filled yet.
template <class T, size_t D = 1>
struct Made {
    std::array<size_t, D> shape{};
    std::unique_ptr<T[]> values;
    template <class... Sizes>
    explicit Made(Sizes... sizes) : shape{size_t(sizes)...}, values(new T[(size_t(sizes) * ... * size_t(1))]) {
        static_assert(sizeof...(Sizes) == D);
    }
    T& operator[](size_t k) { return values[k]; }
    nanobind::object to_python() { return handed_over(std::move(values), shape); }
};

// Times, units, and where each sample starts.
inline nanobind::tuple handed_over(Spikes& spikes) {
    const size_t size = size_t(spikes.size());
    const std::array each{size}, samples{size_t(spikes.batch) + 1};
    return nanobind::make_tuple(handed_over(std::move(spikes.time), each), handed_over(std::move(spikes.unit), each),
                                handed_over(std::move(spikes.start), samples));
}

}  // namespace spikeloop
