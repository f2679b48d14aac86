#include "adam.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "lif.hpp"  // of vectors.inl
#include "simd.hpp"
#include "threads.hpp"

#define SPIKELOOP_KERNEL "adam.inl"
#include "each_target.hpp"

namespace spikeloop {

template <class T>
bool update(const Adam& adam, const Moments<T>& of, double rate, int64_t first, int count) {
    return SPIKELOOP_BEST(update_columns(adam, of, rate, first, count));
}

template <class T>
bool update(const Adam& adam, const Moments<T>& of, double rate, int threads) {
    constexpr int64_t kChunk = 4096;
    const int64_t chunks = (of.count() + kChunk - 1) / kChunk;
    const int adders = worthwhile(threads, 0.5 * double(of.count()), true);
    std::atomic<bool> finite{true};
    const Undisturbed as_a_whole;
    parallel_for(chunks, adders, (chunks + adders - 1) / adders, [&](int64_t chunk) {
        if (!SPIKELOOP_BEST(update_numbers(adam, of, rate, chunk * kChunk, std::min(of.count(), (chunk + 1) * kChunk)))) finite = false;
    });
    return finite;
}

template bool update(const Adam&, const Moments<float>&, double, int64_t, int);
template bool update(const Adam&, const Moments<double>&, double, int64_t, int);
template bool update(const Adam&, const Moments<float>&, double, int);
template bool update(const Adam&, const Moments<double>&, double, int);

}  // namespace spikeloop
