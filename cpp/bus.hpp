// Events in single file: a bus passes one event per cycle, keeps some waiting, and drops what comes then.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

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

// In which whole cycles of `seconds` events are sent, and to which addresses: that of each of `units` units.
inline void address(const Trains& events, int64_t batch, double seconds, const int64_t* of, int64_t units, int64_t* cycle, int64_t* to, int threads) {
    parallel_for(batch, worthwhile(threads, 2.0 * double(events.start[batch])), 16, [=](int64_t s) {
        for (int64_t e = events.start[s]; e < events.start[s + 1]; ++e) {
            if (events.unit[e] < 0 || events.unit[e] >= units) throw std::out_of_range("an event of a unit that does not exist");
            const double exact = events.time[e] / seconds;
            cycle[e] = int64_t(exact < 0x1p51 ? nearest_whole(exact) : std::nearbyint(exact)), to[e] = of[events.unit[e]];
        }
    });
}

// How a population's spikes leave.
struct Exit {
    const double* late = nullptr;     // (spikes,) s, added to their times; or null
    const uint8_t* sends = nullptr;   // of each unit, whether its spikes become events
    const int32_t* bus = nullptr;     // of each unit
    int64_t buses = 0;
    double depth = 0, cycle = 0;      // events that may wait, s
    double duration = 0;
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

// Spikes of a batch as they leave, in order of time; `lost` (batch,) counts those that do not. What is returned is kept until
// this thread's next call.
inline const SpikesPerSample& leave(const Trains& spikes, int64_t batch, const Exit& exit, int64_t* lost, int threads) {
    struct Kept {
        SpikesPerSample runs;
    };
    SpikesPerSample& out = own<Kept>().runs;
    out.resize(batch);
    const auto earlier = [](const Spike& x, const Spike& y) { return x.time < y.time; };
    const auto in_order = [&](std::vector<Spike>& run) {
        if (!std::is_sorted(run.begin(), run.end(), earlier)) std::stable_sort(run.begin(), run.end(), earlier);
    };
    with_buses(batch, exit.buses, exit.depth, spikes.start[batch], threads, [&](int64_t s, Buses& buses) {
        std::vector<Spike>& run = out[s];
        run.clear();
        for (int64_t e = spikes.start[s]; e < spikes.start[s + 1]; ++e) run.push_back({spikes.time[e], spikes.unit[e]});
        if (exit.late) {
            for (size_t k = 0; k < run.size(); ++k) run[k].time = std::clamp(run[k].time + exit.late[spikes.start[s] + k], 0.0, exit.duration);
            in_order(run);
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
        in_order(run);
    });
    return out;
}

}  // namespace spikeloop
