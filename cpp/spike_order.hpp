// Spikes of one sample in order.
#pragma once
#include <algorithm>
#include <vector>

#include "stage.hpp"
#include "threads.hpp"

namespace spikeloop {

// By time, then unit: first into eight times as many slots of equal length as there are spikes, for a sort by comparisons waits
// for each of them; then by insertion. Slots are bytes, eight to a word, so that one product adds up a word.
inline void sort_spikes(std::vector<Spike>& spikes) {
    constexpr size_t kFew = 8;
    constexpr uint32_t kCrowd = 15;  // in one slot: insertion would take long; all bits set, for counts are looked at together
    const size_t count = spikes.size();
    struct Slots {
        std::vector<uint64_t> word;
        std::vector<int32_t> before, of;  // how many spikes come before each word's; the slot of each spike
        std::vector<Spike> sorted;
    };
    Slots& slots = own<Slots>();
    if (count > kFew) {
        slots.word.assign(count, 0), slots.before.resize(count), slots.of.resize(count), slots.sorted.resize(count);
        double begin[4], end[4];  // four at a time, for each waits for the one before
        for (size_t l = 0; l < 4; ++l) begin[l] = end[l] = spikes[count - 1 - l].time;
        for (size_t k = 0; k + 4 <= count; k += 4)
            for (size_t l = 0; l < 4; ++l) begin[l] = std::min(begin[l], spikes[k + l].time), end[l] = std::max(end[l], spikes[k + l].time);
        const double first = *std::min_element(begin, begin + 4), last = *std::max_element(end, end + 4);
        const double scale = last > first ? double(8 * count - 1) / (last - first) : 0.0;
        const Spike* const from = spikes.data();
        uint8_t* const slot = reinterpret_cast<uint8_t*>(slots.word.data());
        int32_t* const of = slots.of.data();
        uint32_t crowd = 0;
        for (size_t k = 0; k < count; ++k) crowd |= ++slot[of[k] = int32_t((from[k].time - first) * scale)];
        if (crowd > kCrowd) return std::sort(spikes.begin(), spikes.end(), Earlier());
        int32_t sum = 0;
        for (size_t w = 0; w < count; ++w) {
            slots.before[w] = sum;
            sum += int32_t((slots.word[w] *= 0x0101010101010101) >> 56);
        }
        const int32_t* const before = slots.before.data();
        Spike* const to = slots.sorted.data();
        for (size_t k = count; k-- > 0;) to[before[of[k] / 8] + --slot[of[k]]] = from[k];
        spikes.swap(slots.sorted);
    }
    for (size_t k = 1; k < count; ++k) {
        if (spikes[k].time > spikes[k - 1].time) continue;
        const Spike spike = spikes[k];
        size_t to = k;
        for (; to > 0 && Earlier()(spike, spikes[to - 1]); --to) spikes[to] = spikes[to - 1];
        spikes[to] = spike;
    }
}

}  // namespace spikeloop
