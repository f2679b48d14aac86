// Spikes of one sample in order.
#pragma once
#include <algorithm>
#include <numeric>

#include "stage.hpp"
#include "threads.hpp"

namespace spikeloop {

// By time, then unit: first into several times as many slots of equal length as there are spikes, for a sort by comparisons waits
// for each of them; then by insertion.
inline void sort_spikes(std::vector<Spike>& spikes) {
    constexpr size_t kFew = 8, kSlots = 4;
    constexpr int32_t kCrowd = 16;  // in one slot: insertion would take long
    const size_t count = spikes.size();
    struct Slots {
        std::vector<int32_t> end, of;
        std::vector<Spike> sorted;
    };
    Slots& slots = own<Slots>();
    if (count > kFew) {
        slots.end.assign(kSlots * count, 0), slots.of.resize(count), slots.sorted.resize(count);
        double begin[4], end[4];  // four at a time, for each waits for the one before
        for (size_t l = 0; l < 4; ++l) begin[l] = end[l] = spikes[count - 1 - l].time;
        for (size_t k = 0; k + 4 <= count; k += 4)
            for (size_t l = 0; l < 4; ++l) begin[l] = std::min(begin[l], spikes[k + l].time), end[l] = std::max(end[l], spikes[k + l].time);
        const double first = *std::min_element(begin, begin + 4), last = *std::max_element(end, end + 4);
        const double scale = last > first ? double(kSlots * count - 1) / (last - first) : 0.0;
        for (size_t k = 0; k < count; ++k) ++slots.end[slots.of[k] = int32_t((spikes[k].time - first) * scale)];
        int32_t sum = 0, most = 0;
        for (int32_t& slot : slots.end) most = std::max(most, slot), slot = sum += slot;
        if (most > kCrowd) return std::sort(spikes.begin(), spikes.end(), Earlier());
        for (size_t k = count; k-- > 0;) slots.sorted[--slots.end[slots.of[k]]] = spikes[k];
        spikes.swap(slots.sorted);
    }
    for (size_t k = 1; k < count; ++k) {
        const Spike spike = spikes[k];
        size_t to = k;
        for (; to > 0 && Earlier()(spike, spikes[to - 1]); --to) spikes[to] = spikes[to - 1];
        spikes[to] = spike;
    }
}

}  // namespace spikeloop
