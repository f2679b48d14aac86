// What Python is handed: arrays of its own, and spikes in them.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "arguments.hpp"
#include "stage.hpp"
#include "threads.hpp"

namespace spikeloop {

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
    nanobind::object to_python() {
        T* data = values.release();
        nanobind::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
        return nanobind::cast(nanobind::ndarray<T, nanobind::numpy>(data, D, shape.data(), owner));
    }
};

struct Spikes {
    Made<double> time;
    Made<int32_t> unit;
    Made<int64_t> start;
    std::optional<Made<float>> current;
    nanobind::tuple to_python() { return nanobind::make_tuple(time.to_python(), unit.to_python(), start.to_python()); }
};

// Spikes of neurons first .. first + size of `all`, renumbered from 0; `count` (batch, size), if given, is raised by one for each.
inline Spikes collect(const SpikesPerSample& spikes, int64_t first, int64_t size, int64_t all, const Maybe<float, 2>& count, int threads,
                      bool with_current = false) {
    constexpr double kNanoseconds = 4;  // about, of one spike
    const int64_t batch = int64_t(spikes.size());
    const auto mine = [&](const Spike& spike) { return spike.unit >= first && spike.unit < first + size; };
    Made<int64_t> start(batch + 1);
    start[0] = 0;
    for (int64_t b = 0; b < batch; ++b)
        start[b + 1] = start[b] + (size == all ? int64_t(spikes[b].size()) : std::count_if(spikes[b].begin(), spikes[b].end(), mine));
    const int64_t total = start[batch];
    Spikes out{Made<double>(total), Made<int32_t>(total), std::move(start), std::nullopt};
    if (with_current) out.current.emplace(total);
    parallel_for(batch, worthwhile(threads, kNanoseconds * double(total), true), 4, [&](int64_t b) {
        int64_t to = out.start[b];
        double* time = out.time.values.get();
        int32_t* unit = out.unit.values.get();
        float* current = with_current ? out.current->values.get() : nullptr;
        for (const Spike& spike : spikes[b]) {
            if (size != all && !mine(spike)) continue;
            if (current) current[to] = spike.current;
            time[to] = spike.time, unit[to++] = int32_t(spike.unit - first);
        }
        if (!count) return;
        float* row = count->data() + b * size;
        for (int64_t k = out.start[b]; k < to; ++k) row[unit[k]] += 1;
    });
    return out;
}

// Spikes of all the neurons there are.
inline Spikes collect(const SpikesPerSample& spikes, int64_t size, const Maybe<float, 2>& count, int threads, bool with_current = false) {
    return collect(spikes, 0, size, size, count, threads, with_current);
}

}  // namespace spikeloop
