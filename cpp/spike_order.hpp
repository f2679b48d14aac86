// Spikes of one sample in order.
#pragma once
#include <algorithm>
#include <numeric>

#include "stage.hpp"
#include "threads.hpp"

namespace spikeloop {

// By time, then unit: first into twice as many slots of equal length as there are spikes, for a sort by comparisons waits for
// each of them; then by insertion.
inline void sort_spikes(std::vector<Spike>& spikes) {
    constexpr size_t kFew = 8, kSlots = 2;
    constexpr int32_t kCrowd = 16;  // in one slot: insertion would take long
    const size_t count = spikes.size();
    struct Slots {
        std::vector<int32_t> end, of;
        std::vector<Spike> sorted;
    };
    Slots& slots = own<Slots>();
    if (count > kFew) {
        slots.end.assign(kSlots * count, 0), slots.of.resize(count), slots.sorted.resize(count);
        double begin = spikes[0].time, end = begin;
        for (const Spike& spike : spikes) begin = std::min(begin, spike.time), end = std::max(end, spike.time);
        const double scale = end > begin ? double(kSlots * count - 1) / (end - begin) : 0.0;
        for (size_t k = 0; k < count; ++k) ++slots.end[slots.of[k] = int32_t((spikes[k].time - begin) * scale)];
        if (*std::max_element(slots.end.begin(), slots.end.end()) > kCrowd) return std::sort(spikes.begin(), spikes.end(), Earlier());
        std::partial_sum(slots.end.begin(), slots.end.end(), slots.end.begin());
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
