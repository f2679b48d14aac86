// Spikes of a batch, from the lists that kernels keep to arrays.
#pragma once
#include <memory>
#include <span>

#include "stage.hpp"
#include "threads.hpp"

namespace spikeloop {

// Arrays that are not filled when they are made, but for where samples start: `size_of(sample)` says how many each has.
struct Spikes {
    int64_t batch = 0;
    std::unique_ptr<int64_t[]> start;
    std::unique_ptr<double[]> time;
    std::unique_ptr<int32_t[]> unit;
    std::unique_ptr<float[]> current;  // where it is wanted

    int64_t samples = -1, most = -1;  // for which there is room

    Spikes() = default;
    template <class SizeOf>
    Spikes(int64_t batch, SizeOf&& size_of, bool with_current = false) {
        make(batch, size_of, with_current);
    }
    // For others, who always want the currents or never do: where there is room for them, in the same arrays.
    template <class SizeOf>
    void make(int64_t of, SizeOf&& size_of, bool with_current = false) {
        batch = of;
        if (batch > samples) start = std::make_unique_for_overwrite<int64_t[]>(batch + 1), samples = batch;
        start[0] = 0;
        for (int64_t b = 0; b < batch; ++b) start[b + 1] = start[b] + int64_t(size_of(b));
        if (size() <= most) return;
        time = std::make_unique_for_overwrite<double[]>(size()), unit = std::make_unique_for_overwrite<int32_t[]>(size());
        if (with_current) current = std::make_unique_for_overwrite<float[]>(size());
        most = size();
    }
    int64_t size() const { return start[batch]; }
    Trains trains() const { return {time.get(), unit.get(), start.get()}; }

    // Sample b's: those of `spikes` that are `mine(spike)`, their neurons renumbered from `first` on.
    template <class Mine>
    void put(int64_t b, const std::vector<Spike>& spikes, int64_t first, Mine&& mine) {
        double* t = time.get() + start[b];
        int32_t* u = unit.get() + start[b];
        for (const Spike& spike : spikes)
            if (mine(spike)) *t++ = spike.time, *u++ = int32_t(spike.unit - first);
        if (!current) return;
        float* i = current.get() + start[b];
        for (const Spike& spike : spikes)
            if (mine(spike)) *i++ = spike.current;
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
