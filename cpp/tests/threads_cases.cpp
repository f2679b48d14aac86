// Work on several threads: everything is done once, and the first error is told.
#include "checks.hpp"
#include "threads.hpp"

namespace spikeloop::tests {
namespace {

constexpr int64_t kFailing = 17;

void all_is_done_once() {
    for (int64_t count : {0, 1, 2, 7, 100})
        for (int threads : {0, 1, 2, 5})
            for (int64_t chunk : {1, 3, 200}) {
                std::vector<std::atomic<int>> done(count);
                parallel_for(count, threads, chunk, [&](int64_t index) { ++done[index]; });
                for (const auto& each : done) CHECK(each == 1);
            }
}

void the_lowest_that_failed_is_told() {
    for (int round = 0; round < 200; ++round)
        for (int threads : {1, 2, 5}) {
            std::vector<std::atomic<int>> done(100);
            int64_t told = -1;
            try {
                parallel_for(100, threads, 1 + round % 4, [&](int64_t index) {
                    ++done[index];
                    if (index >= kFailing && (index - kFailing) % (5 + round % 7) == 0) throw index;
                });
            } catch (int64_t index) {
                told = index;
            }
            CHECK(told == kFailing);
            for (int64_t index = 0; index <= kFailing; ++index) CHECK(done[index] == 1);
        }
}

}  // namespace

std::vector<Case> threads_cases() {
    return {{"all is done once", all_is_done_once}, {"the lowest that failed is told", the_lowest_that_failed_is_told}};
}

}  // namespace spikeloop::tests
