// A host sends events to a chip: in whole cycles, to addresses, and not more at once than a link keeps waiting.
#pragma once
#include <cmath>
#include <stdexcept>

#include "bus.hpp"
#include "stage.hpp"
#include "whole.hpp"

namespace spikeloop {

inline constexpr int64_t kLongBefore = std::numeric_limits<int64_t>::min() / 2;  // cycles: a link is free since then

// In which cycle an event that is due in `cycle` is sent: later where it would wait for the link together with more than `depth`
// others, since then it would be dropped.
inline int64_t held_back(Bus<int64_t>& link, int64_t cycle, int64_t depth) { return std::max(cycle, link.pass(cycle) - depth); }

// That of all events of a batch.
inline void hold_back(int64_t* cycle, const int64_t* start, int64_t batch, int64_t depth) {
    for (int64_t s = 0; s < batch; ++s) {
        Bus<int64_t> link{kLongBefore};
        for (int64_t e = start[s]; e < start[s + 1]; ++e) cycle[e] = held_back(link, cycle[e], depth);
    }
}

// The nearest whole numbers of `seconds`.
inline void whole_cycles(const double* time, int64_t count, double seconds, int64_t* cycle) {
    uint64_t far = 0;  // a bit from 2^52 on: some number is beyond +-2^51
    for (int64_t e = 0; e < count; ++e) {
        const int64_t whole = nearest_integer(time[e] / seconds);
        cycle[e] = whole, far |= uint64_t(whole) + (uint64_t(1) << 51);
    }
    if (far >> 52)
        for (int64_t e = 0; e < count; ++e) cycle[e] = int64_t(std::nearbyint(time[e] / seconds));
}

// In which whole cycles of `seconds` a host sends events, held back as above, and to which addresses: that of each of `units` units.
inline void send(const Trains& events, int64_t batch, double seconds, const int64_t* of, int64_t units, int64_t depth, int64_t* cycle, uint16_t* to, int threads) {
    parallel_groups(batch, worthwhile(threads, 2.0 * double(events.start[batch])), 16, [=](int64_t s) {
        const int64_t first = events.start[s], last = events.start[s + 1];
        whole_cycles(events.time + first, last - first, seconds, cycle + first);
        Bus<int64_t> link{kLongBefore};
        for (int64_t e = first; e < last; ++e) {
            const int32_t unit = events.unit[e];
            if (unit < 0 || unit >= units) throw std::out_of_range("an event of a unit that does not exist");
            to[e] = uint16_t(of[unit]);
            cycle[e] = held_back(link, cycle[e], depth);
        }
    });
}

}  // namespace spikeloop
