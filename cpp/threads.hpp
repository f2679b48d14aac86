// Run independent pieces of work on a few threads.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <type_traits>
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

// Within how many calls this thread makes the present one: whoever is asked whether a call is to end may make another.
inline int& depth() {
    thread_local int depth = 0;
    return depth;
}

struct Nested {
    Nested() { ++depth(); }
    ~Nested() { --depth(); }
};

// While there is one, this thread does not ask whether a call is to end: what it does must be done as a whole.
struct Undisturbed {
    Undisturbed() { ++number(); }
    ~Undisturbed() { --number(); }
    static int& number() {
        thread_local int number = 0;
        return number;
    }
};

// Whether a call is to end: the thread that made it asks every 50 ms, all hear the answer.
class Watch {
public:
    Watch(std::atomic<bool>& stop, bool asks) : stop_(stop), asks_(asks) {}

    // Throws Interrupted once the call is to end; takes tens of nanoseconds.
    void look() {
        if (stop_.load(std::memory_order_relaxed)) throw Interrupted();
        if (!asks_ || Undisturbed::number() > 0) return;
        static std::atomic<std::chrono::steady_clock::time_point> asked;  // outlives the parts of a long call
        const auto now = std::chrono::steady_clock::now();
        if (now - asked.load(std::memory_order_relaxed) <= std::chrono::milliseconds(50)) return;
        asked.store(now, std::memory_order_relaxed);
        const Nested nested;
        if (interrupt_check()()) throw Interrupted();
    }

    // `look` at every 64th call: for each event of a long piece of work.
    void glance() {
        if (++glances_ % 64 == 0) look();
    }

private:
    std::atomic<bool>& stop_;
    const bool asks_;
    uint32_t glances_ = 0;
};

// Waits until `value` is no longer `old`: for a while awake, for in a training the next call follows soon and waking up takes
// some 50 us, but giving way to others; then asleep.
inline void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
    constexpr auto patience = std::chrono::milliseconds(2);
    const auto began = std::chrono::steady_clock::now();
    for (int look = 0; value.load(std::memory_order_acquire) == old; ++look) {
        if (look % 64 < 63) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        } else if (std::chrono::steady_clock::now() - began > patience) {
            return value.wait(old, std::memory_order_acquire);
        } else {
            std::this_thread::yield();
        }
    }
}

// Threads that wait for work. They are never joined: a process may end, or fork, while they sleep; a child makes its own.
class Helpers {
public:
    // Calls work(0) on this thread and work(1) .. work(count) on others, each number always on the same; false, and nothing is
    // done, if they are busy.
    bool run(int count, const std::function<void(int)>& work) {
        if (busy_.test_and_set(std::memory_order_acquire)) return false;
        const struct Free {
            std::atomic_flag& busy;
            ~Free() { busy.clear(std::memory_order_release); }
        } free{busy_};
        while (int(seats_.size()) < count) hire();
        left_.store(uint32_t(count), std::memory_order_relaxed);
        for (int k = 0; k < count; ++k) {
            seats_[k]->work = &work;
            seats_[k]->call.fetch_add(1, std::memory_order_release);
            seats_[k]->call.notify_one();
        }
        work(0);
        for (uint32_t left; (left = left_.load(std::memory_order_acquire)) != 0;) wait_while(left_, left);
        return true;
    }

    static Helpers& of_this_process() {
        static std::mutex guard;
        static pid_t owner = 0;
        static Helpers* helpers = nullptr;
        std::lock_guard lock(guard);
        if (owner != getpid()) helpers = new Helpers, owner = getpid();  // the parent's threads do not exist here
        return *helpers;
    }

private:
    struct Seat {
        std::atomic<uint32_t> call{0};
        const std::function<void(int)>* work = nullptr;
    };

    void hire() {
        Seat* seat = seats_.emplace_back(std::make_unique<Seat>()).get();
        std::thread([this, seat, number = int(seats_.size())] {
            for (uint32_t done = 0;; ++done) {
                wait_while(seat->call, done);
                (*seat->work)(number);
                if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
            }
        }).detach();
    }

    std::atomic_flag busy_;
    std::atomic<uint32_t> left_{0};
    std::vector<std::unique_ptr<Seat>> seats_;
};

// How many of `threads` are worth it for so many nanoseconds of work: waking one takes some 10 us, but not where they have just
// worked and are `awake`.
inline int worthwhile(int threads, double nanoseconds, bool awake = false) {
    return int(std::min<double>(threads, 1 + nanoseconds / (awake ? 5e3 : 5e4)));
}

// `count` things in as few parts as can be that are no larger than `most`, their number a multiple of `multiple`.
struct Parts {
    int64_t count, number;
    Parts(int64_t count, int64_t most, int64_t multiple) : count(count) {
        const int64_t needed = (count + most - 1) / most;
        number = std::min((needed + multiple - 1) / multiple * multiple, count);
    }
    int64_t first(int64_t part) const { return part * count / number; }
    int64_t size(int64_t part) const { return first(part + 1) - first(part); }
};

// This thread's own X, kept from call to call; a call within another has one of its own.
template <class X>
X& own() {
    thread_local std::deque<X> each(1);
    while (each.size() <= size_t(depth())) each.emplace_back();
    return each[depth()];
}

// Calls work(index), or work(index, watch) where it takes long, for every index below `count`, in chunks, and rethrows the
// error of the lowest index that failed. Results must not depend on who does which index; but a thread begins with the same share
// of them in every call, for what it left in its cache the last time, and takes over others' when it has done its own.
template <class Work>
void parallel_for(int64_t count, int threads, int64_t chunk, Work&& work) {
    struct alignas(64) Share {
        std::atomic<int64_t> next;
        int64_t end;
    };
    const int64_t chunks = (count + chunk - 1) / std::max<int64_t>(chunk, 1);
    const int number = int(std::clamp<int64_t>(chunks, 1, std::max(threads, 1)));
    const auto shares = std::make_unique<Share[]>(number);
    for (int64_t k = 0; k < number; ++k) {
        shares[k].next = k * chunks / number * chunk;
        shares[k].end = std::min((k + 1) * chunks / number * chunk, count);
    }
    std::atomic<bool> stop{false};
    std::mutex guard;
    std::exception_ptr error;
    int64_t failed = count;
    auto work_on = [&](Share& share, Watch& watch) {
        while (!stop) {
            const int64_t first = share.next.fetch_add(chunk);
            if (first >= share.end) return true;
            const int64_t last = std::min(first + chunk, share.end);
            for (int64_t index = first; index < last; ++index) {
                try {
                    if constexpr (std::is_invocable_v<Work&, int64_t, Watch&>)
                        work(index, watch);
                    else
                        work(index);
                    watch.look();
                } catch (const Interrupted&) {
                    std::lock_guard lock(guard);
                    error = std::current_exception(), failed = -1, stop = true;
                    return false;
                } catch (...) {  // later chunks stop, earlier ones finish: the lowest index is always found
                    std::lock_guard lock(guard);
                    if (index < failed) error = std::current_exception(), failed = index;
                    for (int k = 0; k < number; ++k)
                        if (shares[k].end > index) shares[k].next = count;
                    return false;
                }
            }
        }
        return false;
    };
    const auto run = [&](int who) {
        Watch watch(stop, who == 0);
        for (int k = 0; k < number; ++k)
            if (!work_on(shares[(who + k) % number], watch)) return;
    };
    if (number == 1 || !Helpers::of_this_process().run(number - 1, run)) run(0);
    if (error) std::rethrow_exception(error);
}

// The same for work that takes less than to ask the clock, as it does whether the call is to end: `together` at a time.
template <class Work>
void parallel_groups(int64_t count, int threads, int64_t together, Work&& work) {
    parallel_for((count + together - 1) / together, threads, 1, [&](int64_t group) {
        for (int64_t index = group * together; index < std::min((group + 1) * together, count); ++index) work(index);
    });
}

}  // namespace spikeloop
