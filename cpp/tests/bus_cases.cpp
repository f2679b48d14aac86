// Events on their way to a chip and from it: what is held back is not dropped, nothing is counted twice, on any number of threads.
#include <random>

#include "bus_entered.hpp"
#include "bus_left.hpp"
#include "bus_lifted.hpp"
#include "bus_sent.hpp"
#include "checks.hpp"

namespace spikeloop::tests {
namespace {

constexpr int64_t kBatch = 30, kUnits = 7, kDepth = 3, kCycles = 500;
constexpr double kCycle = 8e-9;

// Events in arrays of exactly the right length; some runs have none, many have the same time.
struct Drive {
    std::vector<double> time;
    std::vector<int32_t> unit;
    std::vector<int64_t> start{0};

    Drive() {
        std::mt19937_64 random{5};
        for (int64_t s = 0; s < kBatch; ++s) {
            std::vector<double> times(s % 5 ? random() % 90 : 0);
            for (double& t : times) t = double(random() % 40) * kCycle;
            std::sort(times.begin(), times.end());
            for (double t : times) time.push_back(t), unit.push_back(int32_t(random() % kUnits));
            start.push_back(int64_t(time.size()));
        }
    }
    int64_t count() const { return start.back(); }
    Trains trains() const { return {time.data(), unit.data(), start.data()}; }
};

int64_t sum(const std::vector<int64_t>& of) {
    int64_t all = 0;
    for (int64_t each : of) all += each;
    return all;
}

void what_is_held_back_is_not_dropped() {
    const Drive drive;
    const std::vector<int64_t> address(kUnits, 5);  // one link
    std::vector<int32_t> source(1 << 16, 0), of(drive.count());
    std::vector<double> time(drive.count());
    for (int threads : {1, 3})
        for (const auto& [depth, drops] : {std::pair{kDepth, false}, std::pair{int64_t(1) << 62, true}}) {
            std::vector<int64_t> cycle(drive.count()), lost(kBatch);
            std::vector<uint16_t> to(drive.count());
            send(drive.trains(), kBatch, kCycle, address.data(), kUnits, depth, cycle.data(), to.data(), threads);
            const Sent<uint16_t> sent{cycle.data(), to.data(), drive.start.data()};
            CHECK(in_order(sent, kBatch, drive.count(), threads));
            CHECK(enter(sent, kBatch, {4, kDepth, kCycle, kCycles, source.data()}, time.data(), of.data(), lost.data(), threads));
            CHECK((sum(lost) > 0) == drops);
            std::vector<int64_t> later(cycle);
            hold_back(later.data(), drive.start.data(), kBatch, kDepth);
            CHECK((later != cycle) == drops);
        }
}

void spikes_leave_once_or_are_lost() {
    const Drive drive;
    std::vector<double> late;
    for (int64_t e = 0; e < drive.count(); ++e) late.push_back(double(e % 11) - 5);
    const std::vector<uint8_t> sends{1, 1, 0, 1, 1, 1, 0};
    const std::vector<int32_t> bus{0, 1, 1, 0, 0, 1, 0};
    const std::vector<int64_t> label{3, 1, 4, 1, 5, 9, 2};
    int64_t sending = 0;
    for (int32_t unit : drive.unit) sending += sends[unit];
    std::vector<double> before;
    for (int threads : {1, 3}) {
        std::vector<int64_t> lost(kBatch);
        const Exit exit{late.data(), sends.data(), bus.data(), 2, double(kDepth), kCycle, kCycles * kCycle, 2 * kCycle, kCycles, label.data()};
        const Left left = departed(drive.trains(), kBatch, exit, lost.data(), threads);
        const int64_t count = left.spikes.size();
        CHECK(sum(lost) > 0 && count + sum(lost) == sending);
        for (int64_t s = 0; s < kBatch; ++s)
            for (int64_t e = left.spikes.start[s] + 1; e < left.spikes.start[s + 1]; ++e) CHECK(left.spikes.time[e - 1] <= left.spikes.time[e]);
        const std::vector<double> now(left.spikes.time.get(), left.spikes.time.get() + count);
        CHECK(threads == 1 || now == before);
        before = now;
        // and up again: labels 1 are unit 6's, 5 is nobody's of this population
        std::vector<int32_t> unit{kNoCircuits, 6, kNoCircuits, 0, kNoCircuits, kNobodys, kNoCircuits, kNoCircuits, kNoCircuits, 1};
        const Sent<uint16_t> sent{left.cycle.get(), left.address.get(), left.spikes.start.get()};
        const Spikes lifted = lift(sent, kBatch, unit.data(), int64_t(unit.size()), kCycle, threads);
        CHECK(lifted.size() < count && lifted.size() > 0);
        for (int64_t addresses : {int64_t(unit.size()) - 1, int64_t(unit.size())}) {  // 9 is beyond them; 1 is nobody's
            bool refused = false;
            if (addresses == int64_t(unit.size())) unit[1] = kNoCircuits;
            try {
                lift(sent, kBatch, unit.data(), addresses, kCycle, threads);
            } catch (const std::out_of_range&) {
                refused = true;
            }
            CHECK(refused);
        }
    }
}

void whole_numbers_are_the_nearest_ones() {
    for (double x : {0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994, 1e15 + 0.5, -1e15 - 0.5, 0x1p51 - 0.5, 12345.678}) {
        CHECK(nearest_integer(x) == int64_t(std::nearbyint(x)));
        CHECK(nearest_whole(x) == std::nearbyint(x));
    }
    const std::vector<double> time{0.5, 0x1p60, 2.5, -0x1p60, -0x1.8p52 - 4};
    std::vector<int64_t> cycle(time.size());
    whole_cycles(time.data(), int64_t(time.size()), 1.0, cycle.data());
    CHECK((cycle == std::vector<int64_t>{0, int64_t(1) << 60, 2, -(int64_t(1) << 60), -(int64_t(3) << 51) - 4}));
}

}  // namespace

std::vector<Case> bus_cases() {
    return {{"what is held back is not dropped", what_is_held_back_is_not_dropped},
            {"spikes leave once or are lost", spikes_leave_once_or_are_lost},
            {"whole numbers are the nearest ones", whole_numbers_are_the_nearest_ones}};
}

}  // namespace spikeloop::tests
