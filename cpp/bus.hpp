// Events in single file: a bus passes one event per cycle, keeps some waiting, and drops what comes then.
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "spikes.hpp"
#include "stage.hpp"
#include "threads.hpp"
#include "whole.hpp"

namespace spikeloop {

// Buses side by side, each empty at first; times in cycles, not necessarily whole.
class Buses {
  public:
    Buses(int64_t count, double depth) : free_(count), depth_(depth) { clear(); }
    void clear() { std::fill(free_.begin(), free_.end(), -kInfinity); }

    // When an event that comes at `time`, no earlier than those before it, is passed on; negative if it is lost.
    double pass(int32_t bus, double time) {
        double& free = free_[bus];
        if (free - time > depth_) return -1;
        const double left = std::max(time, free);
        free = left + 1;
        return left;
    }

  private:
    std::vector<double> free_;  // when the next event may pass
    double depth_;
};

// Whole cycles in which a host sends the events of a batch: later where they would have to wait for a link that passes one a
// cycle together with more than `depth` others.
inline void hold_back(int64_t* cycle, const int64_t* start, int64_t batch, int64_t depth) {
    for (int64_t s = 0; s < batch; ++s)
        for (int64_t e = start[s], next = std::numeric_limits<int64_t>::min(); e < start[s + 1]; ++e) {
            next = std::max(cycle[e], next) + 1;
            cycle[e] = std::max(cycle[e], next - 1 - depth);
        }
}

// Events that are sent to a chip: in which cycles, to which addresses, and where each run starts.
template <class Word>
struct Sent {
    const int64_t* cycle;
    const Word* address;
    const int64_t* start;
};

// The nearest whole numbers of `seconds`.
inline void whole_cycles(const double* time, int64_t count, double seconds, int64_t* cycle) {
    constexpr double kWhole = 0x1.8p52;  // as in `nearest_whole`: what is added to it is in its last bits
    uint64_t far = 0;  // a bit from 2^52 on: some number is beyond +-2^51
    for (int64_t e = 0; e < count; ++e) {
        const uint64_t whole = std::bit_cast<uint64_t>(time[e] / seconds + kWhole) - std::bit_cast<uint64_t>(kWhole);
        cycle[e] = int64_t(whole), far |= whole + (uint64_t(1) << 51);
    }
    if (far >> 52)
        for (int64_t e = 0; e < count; ++e) cycle[e] = int64_t(std::nearbyint(time[e] / seconds));
}

// In which whole cycles of `seconds` a host sends events, and to which addresses: that of each of `units` units. Where an event
// would wait together with more than `depth` others for a link that passes one a cycle, later.
inline void send(const Trains& events, int64_t batch, double seconds, const int64_t* of, int64_t units, int64_t depth, int64_t* cycle, uint16_t* to, int threads) {
    parallel_groups(batch, worthwhile(threads, 2.0 * double(events.start[batch])), 16, [=](int64_t s) {
        const int64_t first = events.start[s], last = events.start[s + 1];
        whole_cycles(events.time + first, last - first, seconds, cycle + first);
        int64_t line = std::numeric_limits<int64_t>::min() / 2;  // when the link passes event e, less e
        for (int64_t e = first; e < last; ++e) {
            const int32_t unit = events.unit[e];
            if (unit < 0 || unit >= units) throw std::out_of_range("an event of a unit that does not exist");
            to[e] = uint16_t(of[unit]);
            line = std::max(cycle[e] - e, line);
            cycle[e] = std::max(cycle[e], line + e - depth);
        }
    });
}

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
        int64_t free[Entry::kLinks] = {}, missing = 0;  // when each link passes the next
        int32_t sources = 0;
        for (int64_t e = events.start[s]; e < events.start[s + 1]; ++e) {
            int64_t came = events.cycle[e];
            bool comes = came < entry.cycles;
            if (entry.links > 0) {
                int64_t& next = free[events.address[e] >> 14];
                const bool passes = next - came <= entry.depth;
                came = std::max(came, next);
                comes = passes && came < entry.cycles;
                next = passes ? came + 1 : next;
            }
            missing += !comes, time[e] = comes ? double(came) * entry.cycle : -1;
            sources |= source[e] = entry.source[events.address[e]];
        }
        lost[s] += missing;
        if (sources < 0) known = false;
    });
    return known;
}

// How a population's spikes leave.
struct Exit {
    const double* late = nullptr;     // (spikes,) in units of `rms`, added to their times; or null
    const uint8_t* sends = nullptr;   // of each unit, whether its spikes become events
    const int32_t* bus = nullptr;     // of each unit
    int64_t buses = 0;
    double depth = 0, cycle = 0;      // events that may wait, s
    double duration = 0;
    double rms = 1;                   // s
    int64_t cycles = 0;               // that the run takes
    const int64_t* label = nullptr;   // of each unit, the address of its events
};

inline constexpr int64_t kServedTogether = 64;  // samples
inline constexpr double kServing = 5;           // ns an event

// Calls work(sample, buses), the buses empty, for each sample of a batch.
template <class Work>
void with_buses(int64_t batch, int64_t count, double depth, int64_t events, int threads, Work&& work) {
    parallel_for((batch + kServedTogether - 1) / kServedTogether, worthwhile(threads, kServing * double(events)), 1, [&](int64_t group) {
        Buses buses(count, depth);
        for (int64_t s = group * kServedTogether; s < std::min((group + 1) * kServedTogether, batch); ++s) buses.clear(), work(s, buses);
    });
}

// In order of time, those of one time as they were: by insertion, for they are nearly in order.
inline void by_time(std::vector<Spike>& run) {
    constexpr size_t kFar = 8;  // moves of each, on average: from there on it takes too long
    size_t moves = 0;
    for (size_t k = 1; k < run.size(); ++k) {
        const Spike spike = run[k];
        size_t to = k;
        for (; to > 0 && spike.time < run[to - 1].time; --to) run[to] = run[to - 1];
        run[to] = spike;
        if ((moves += k - to) > kFar * run.size())
            return std::stable_sort(run.begin(), run.end(), [](const Spike& x, const Spike& y) { return x.time < y.time; });
    }
}

// Spikes that left, and what a chip makes of them: time stamps and addresses.
struct Left {
    Spikes spikes;
    std::unique_ptr<int64_t[]> cycle;
    std::unique_ptr<uint16_t[]> address;
};

// Spikes of a batch as they leave, in order of time; `lost` (batch,) counts those that do not.
inline Left departed(const Trains& spikes, int64_t batch, const Exit& exit, int64_t* lost, int threads) {
    struct Kept {
        std::vector<Spike> run;
    };
    Left out{Spikes(batch, [&](int64_t s) { return spikes.size(s); }), nullptr, nullptr};
    out.cycle.reset(new int64_t[size_t(out.spikes.size())]), out.address.reset(new uint16_t[size_t(out.spikes.size())]);
    std::vector<int64_t> size(batch);
    with_buses(batch, exit.buses, exit.depth, out.spikes.size(), threads, [&](int64_t s, Buses& buses) {
        std::vector<Spike>& run = own<Kept>().run;
        run.resize(size_t(spikes.size(s)));
        for (int64_t e = spikes.start[s], k = 0; e < spikes.start[s + 1]; ++e, ++k) run[k] = {spikes.time[e], spikes.unit[e]};
        if (exit.late) {
            const double* late = exit.late + spikes.start[s];
            for (size_t k = 0; k < run.size(); ++k) run[k].time = std::clamp(run[k].time + exit.rms * late[k], 0.0, exit.duration);
            by_time(run);
        }
        size_t kept = 0;
        for (Spike spike : run) {
            const double left = exit.bus ? buses.pass(exit.bus[spike.unit], spike.time / exit.cycle) : 0;
            if (!exit.sends[spike.unit]) continue;
            if (left < 0) {
                ++lost[s];
                continue;
            }
            if (exit.bus) spike.time = left * exit.cycle;
            run[kept++] = spike;
        }
        run.resize(kept);
        by_time(run);
        size[s] = int64_t(kept);
        int64_t to = out.spikes.start[s];
        for (const Spike& spike : run) {
            out.cycle[to] = std::min(int64_t(spike.time / exit.cycle + 1e-9), exit.cycles - 1), out.address[to] = uint16_t(exit.label[spike.unit]);
            out.spikes.time[to] = spike.time, out.spikes.unit[to++] = spike.unit;
        }
    });
    int64_t to = 0;
    for (int64_t s = 0; s < batch; ++s) {  // over the gaps of those that did not leave
        const int64_t from = out.spikes.start[s];
        const auto move_up = [&](auto& values) { std::copy_n(values.get() + from, size[s], values.get() + to); };
        if (from != to) move_up(out.spikes.time), move_up(out.spikes.unit), move_up(out.cycle), move_up(out.address);
        out.spikes.start[s] = to, to += size[s];
    }
    out.spikes.start[batch] = to;
    return out;
}

}  // namespace spikeloop
