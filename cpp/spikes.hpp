// Spikes of a batch, from the lists that kernels keep to arrays.
#pragma once
#include <memory>
#include <span>

#include "stage.hpp"
#include "threads.hpp"

namespace spikeloop {

// Arrays that are not filled when they are made, but for where samples start: `size_of(sample)` says how many each has.
struct Spikes {
    int64_t batch;
    std::unique_ptr<int64_t[]> start;
    std::unique_ptr<double[]> time;
    std::unique_ptr<int32_t[]> unit;
    std::unique_ptr<float[]> current;  // where it is wanted

    template <class SizeOf>
    Spikes(int64_t batch, SizeOf&& size_of, bool with_current = false) : batch(batch), start(std::make_unique_for_overwrite<int64_t[]>(batch + 1)) {
        start[0] = 0;
        for (int64_t b = 0; b < batch; ++b) start[b + 1] = start[b] + int64_t(size_of(b));
        time = std::make_unique_for_overwrite<double[]>(size()), unit = std::make_unique_for_overwrite<int32_t[]>(size());
        if (with_current) current = std::make_unique_for_overwrite<float[]>(size());
    }
    int64_t size() const { return start[batch]; }
    Trains trains() const { return {time.get(), unit.get(), start.get()}; }

    // Sample b's: those of `spikes` that are `mine(spike)`, their neurons renumbered from `first` on.
    template <class Mine>
    void put(int64_t b, const std::vector<Spike>& spikes, int64_t first, Mine&& mine) {
        int64_t to = start[b];
        for (const Spike& spike : spikes) {
            if (!mine(spike)) continue;
            if (current) current[to] = spike.current;
            time[to] = spike.time, unit[to++] = int32_t(spike.unit - first);
        }
    }
    void put(int64_t b, const std::vector<Spike>& spikes) {
        put(b, spikes, 0, [](const Spike&) { return true; });
    }
};

// Spikes of neurons first .. first + size of `all`; `count` (batch, size), if given, is raised by one for each.
inline Spikes collect(std::span<const std::vector<Spike>> spikes, int64_t first, int64_t size, int64_t all, float* count, int threads,
                      bool with_current = false) {
    constexpr double kNanoseconds = 4;  // about, of one spike
    const auto mine = [&](const Spike& spike) { return spike.unit >= first && spike.unit < first + size; };
    const auto size_of = [&](int64_t b) {
        return size == all ? int64_t(spikes[b].size()) : std::count_if(spikes[b].begin(), spikes[b].end(), mine);
    };
    Spikes out(int64_t(spikes.size()), size_of, with_current);
    parallel_groups(out.batch, worthwhile(threads, kNanoseconds * double(out.size()), true), 16, [&](int64_t b) {
        size == all ? out.put(b, spikes[b]) : out.put(b, spikes[b], first, mine);
        for (int64_t k = out.start[b]; count && k < out.start[b + 1]; ++k) count[b * size + out.unit[k]] += 1;
    });
    return out;
}

// Spikes of all the neurons there are.
inline Spikes collect(std::span<const std::vector<Spike>> spikes, int64_t size, float* count, int threads, bool with_current = false) {
    return collect(spikes, 0, size, size, count, threads, with_current);
}

}  // namespace spikeloop
