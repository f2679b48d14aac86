// A bus: it passes one event per cycle, keeps some waiting, and drops what comes then.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "lif.hpp"
#include "threads.hpp"

namespace spikeloop {

// Events on their way to a chip or from it: in which cycles, addresses, and where each run starts.
template <class Word>
struct Sent {
    const int64_t* cycle;
    const Word* address;
    const int64_t* start;
};

// Times in cycles: double, not necessarily whole, or int64_t.
template <class Time>
struct Bus {
    Time free;  // when the next event may pass

    // When an event that comes at `time`, no earlier than those before it, is passed on; negative if it is lost, because more
    // than `depth` would wait.
    Time pass(Time time, Time depth = std::numeric_limits<Time>::max()) {
        const bool passes = free - time <= depth;
        const Time left = std::max(time, free);
        free = passes ? left + 1 : free;
        return passes ? left : Time(-1);
    }
};

// Buses side by side, each empty at first.
class Buses {
  public:
    Buses(int64_t count, double depth) : bus_(count), depth_(depth) { clear(); }
    void clear() { std::fill(bus_.begin(), bus_.end(), Bus<double>{-kInfinity}); }
    double pass(int32_t bus, double time) { return bus_[bus].pass(time, depth_); }

  private:
    std::vector<Bus<double>> bus_;
    double depth_;
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

}  // namespace spikeloop
