// Spikes leave a chip as events: with jitter, over buses, with time stamps and addresses.
#pragma once
#include <memory>

#include "bus.hpp"
#include "spikes.hpp"
#include "stage.hpp"

namespace spikeloop {

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
