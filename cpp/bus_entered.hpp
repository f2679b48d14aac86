// Events enter a chip through its links.
#pragma once
#include <atomic>

#include "bus.hpp"

namespace spikeloop {

// Whether it is certain that cycles are 0 .. 2^53 - 1 and ascend within each run, that addresses have 16 bits, and that the runs
// share out the `count` events. Where it is not, whoever asks looks at them one by one, and says what is wrong.
template <class Word>
bool in_order(const Sent<Word>& events, int64_t batch, int64_t count, int threads) {
    if (batch < 0 || events.start[0] != 0 || events.start[batch] != count) return false;
    for (int64_t s = 0; s < batch; ++s)
        if (events.start[s + 1] < events.start[s]) return false;
    std::atomic<bool> fine{true};
    parallel_groups(batch, worthwhile(threads, 0.5 * double(count)), 64, [&](int64_t s) {
        const int64_t first = events.start[s], last = events.start[s + 1];
        uint64_t cycles = 0, words = 0, steps = 0;  // a bit is set where one of them has it
        for (int64_t e = first; e < last; ++e) cycles |= uint64_t(events.cycle[e]), words |= uint64_t(events.address[e]);
        for (int64_t e = first + 1; e < last; ++e) steps |= uint64_t(events.cycle[e]) - uint64_t(events.cycle[e - 1]);
        if (cycles >> 53 || words >> 16 || steps >> 63) fine = false;
    });
    return fine;
}

// How events come in: by one of `links` each (address >> 14), at most kLinks, which passes one a cycle, or at once where there are
// none. depth: how many may wait at each.  cycle: s.  cycles: how many a run takes.  source: of each address.
struct Entry {
    static constexpr int64_t kLinks = 4;
    int64_t links, depth;
    double cycle;
    int64_t cycles;
    const int32_t* source;
};

// Seconds at which events have come in, or -1 for those that have not, which `lost` (batch,) counts, and their sources. Events
// are as `in_order` says. Returns whether all of them have a source.
inline bool enter(const Sent<uint16_t>& events, int64_t batch, const Entry& entry, double* time, int32_t* source, int64_t* lost, int threads) {
    std::atomic<bool> known{true};
    parallel_groups(batch, worthwhile(threads, 3.0 * double(events.start[batch])), 16, [&](int64_t s) {
        Bus<int64_t> link[Entry::kLinks] = {};
        int64_t missing = 0;
        int32_t sources = 0;
        for (int64_t e = events.start[s]; e < events.start[s + 1]; ++e) {
            int64_t came = events.cycle[e];
            if (entry.links > 0) came = link[events.address[e] >> 14].pass(came, entry.depth);
            const bool comes = came >= 0 && came < entry.cycles;
            missing += !comes, time[e] = comes ? double(came) * entry.cycle : -1;
            sources |= source[e] = entry.source[events.address[e]];
        }
        lost[s] += missing;
        if (sources < 0) known = false;
    });
    return known;
}

}  // namespace spikeloop
