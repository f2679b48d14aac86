// A host lifts a chip's events: spikes of populations from time stamps and addresses.
#pragma once
#include <stdexcept>

#include "bus.hpp"
#include "spikes.hpp"

namespace spikeloop {

inline constexpr int32_t kNobodys = -1, kNoCircuits = -2;  // in the place of a unit: of no neuron of the population; of none at all

// The spikes of one population, in the middle of their cycles of `period` seconds. unit: of each of `addresses` addresses, or one
// of the above. An address that no circuit has is an error: whoever asks says which.
inline Spikes lift(const Sent<uint16_t>& events, int64_t batch, const int32_t* unit, int64_t addresses, double period, int threads) {
    const auto unit_of = [=](int64_t e) {
        const int32_t found = events.address[e] < addresses ? unit[events.address[e]] : kNoCircuits;
        if (found < kNobodys) throw std::out_of_range("an event of an address that does not exist");
        return found;
    };
    Spikes out(batch, [&](int64_t s) {
        int64_t mine = 0;
        for (int64_t e = events.start[s]; e < events.start[s + 1]; ++e) mine += unit_of(e) >= 0;
        return mine;
    });
    parallel_groups(batch, worthwhile(threads, 2.0 * double(out.size()), true), 64, [&](int64_t s) {
        int64_t to = out.start[s];
        for (int64_t e = events.start[s]; e < events.start[s + 1]; ++e)
            if (const int32_t mine = unit_of(e); mine >= 0) out.time[to] = (double(events.cycle[e]) + 0.5) * period, out.unit[to++] = mine;
    });
    return out;
}

}  // namespace spikeloop
