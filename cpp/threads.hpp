// Run independent pieces of work on a few threads. Threads live for one call, so nothing survives a fork.
#pragma once
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace spikeloop {

struct Interrupted : std::runtime_error {
    Interrupted() : std::runtime_error("interrupted") {}
};

// Asked by the calling thread every 50 ms of a long call; true ends the call with Interrupted.
inline std::function<bool()>& interrupt_check() {
    static std::function<bool()> check = [] { return false; };
    return check;
}

// Starting a thread takes about 30 us: how many of `threads` are worth it for so many nanoseconds of work.
inline int worthwhile(int threads, double nanoseconds) { return int(std::min<double>(threads, 1 + nanoseconds / 1e5)); }

// Calls work(index) for every index below `count`, in chunks, and rethrows the error of the lowest index that failed.
// Results must not depend on who does which index.
template <class Work>
void parallel_for(int64_t count, int threads, int64_t chunk, Work&& work) {
    std::atomic<int64_t> next{0};
    std::atomic<bool> stop{false};
    std::mutex guard;
    std::exception_ptr error;
    int64_t failed = count;
    auto run = [&](bool caller) {
        auto asked = std::chrono::steady_clock::now();
        while (!stop) {
            const int64_t first = next.fetch_add(chunk);
            if (first >= count) return;
            const int64_t last = std::min(first + chunk, count);
            for (int64_t index = first; index < last; ++index) {
                try {
                    work(index);
                    if (caller && std::chrono::steady_clock::now() - asked > std::chrono::milliseconds(50)) {
                        asked = std::chrono::steady_clock::now();
                        if (interrupt_check()()) throw Interrupted();
                    }
                } catch (const Interrupted&) {
                    std::lock_guard lock(guard);
                    error = std::current_exception(), failed = -1, stop = true;
                    return;
                } catch (...) {  // later chunks stop, earlier ones finish: the lowest index is always found
                    std::lock_guard lock(guard);
                    if (index < failed) error = std::current_exception(), failed = index;
                    next = count;
                    return;
                }
            }
        }
    };
    const int64_t useful = (count + chunk - 1) / std::max<int64_t>(chunk, 1);
    std::vector<std::thread> helpers;
    for (int k = 1; k < std::min<int64_t>(threads, useful); ++k) helpers.emplace_back(run, false);
    run(true);
    for (auto& helper : helpers) helper.join();
    if (error) std::rethrow_exception(error);
}

}  // namespace spikeloop
