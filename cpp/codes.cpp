#include "codes.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "threads.hpp"
#include "whole.hpp"

namespace spikeloop {
namespace {

constexpr int64_t kRows = 8;
constexpr int64_t kCells = 4096;  // that a thread wires at a time

}  // namespace

template <class T>
Change rounded(const Rounding<T>& wanted) {
    Change change;
    const int64_t targets = wanted.targets;
    const T *__restrict unit = wanted.unit, most = wanted.most, exact = wanted.exact;
    std::vector<T> kept(kRows * targets);  // squares of some rows: each row's are added up in turn, the rows side by side
    for (int64_t first = 0; first < wanted.sources; first += kRows) {
        const int64_t rows = std::min(kRows, wanted.sources - first);
        for (int64_t row = 0; row < rows; ++row) {
            const T* __restrict weight = wanted.weight + (first + row) * targets;
            int32_t* __restrict code = wanted.code + (first + row) * targets;
            T *__restrict executed = wanted.executed + (first + row) * targets, *__restrict square = kept.data() + row * targets;
            int32_t beyond = 0, between = 0;
            for (int64_t t = 0; t < targets; ++t) {
                const T share = weight[t] / unit[t], high = share < most ? share : most, held = high > -most ? high : -most;
                const T whole = nearest_whole(held), off = std::abs(share - whole);
                const bool is_beyond = off > T(0.5);
                beyond += is_beyond, between += !is_beyond & (off > exact);
                square[t] = is_beyond ? T(0) : off * off;
                code[t] = int32_t(whole), executed[t] = whole * unit[t];
            }
            change.beyond += beyond, change.between += between;
        }
        T sum[kRows] = {};
        for (int64_t t = 0; t < targets; ++t)
            for (int64_t row = 0; row < kRows; ++row) sum[row] += kept[row * targets + t];
        for (int64_t row = 0; row < rows; ++row) change.squares += double(sum[row]);
    }
    return change;
}
template Change rounded(const Rounding<float>&);
template Change rounded(const Rounding<double>&);

void lay(const int32_t* code, const int64_t* place, int64_t count, int32_t row, int32_t rows, int64_t below, uint8_t* array) {
    const auto each = [=](auto&& share) {
        for (int64_t k = 0; k < count; ++k) {  // no branch
            const int32_t sign = code[k] >> 31, size = share((code[k] ^ sign) - sign);
            array[place[k]] = uint8_t(size & ~sign), array[place[k] + below] = uint8_t(size & sign);
        }
    };
    rows == 1 ? each([](int32_t size) { return size; }) : each([=](int32_t size) { return (size + row) / rows; });
}

void wire(const uint8_t* code, const float* height, const int32_t* synapse, const int32_t* first, int64_t cells, float* weight, int threads) {
    const auto one = [=](int32_t at) { return double(float(code[at]) * height[at]); };
    const Parts parts(cells, kCells, 1);
    parallel_for(parts.number, worthwhile(threads, 3.0 * double(cells)), 1, [=](int64_t part) {
        for (int64_t cell = parts.first(part); cell < parts.first(part + 1); ++cell) {
            const int32_t begin = first[cell], end = first[cell + 1];
            if (end - begin == 2) {  // nearly all: one of either sign
                weight[cell] = float(one(synapse[begin]) + one(synapse[begin + 1]));
                continue;
            }
            double sum = 0;
            for (int32_t k = begin; k < end; ++k) sum += one(synapse[k]);
            weight[cell] = float(sum);
        }
    });
}

void highest(const uint8_t* reading, int64_t runs, int64_t times, int64_t channels, uint8_t* value, int64_t* which, int threads) {
    constexpr int kBits = 23;  // a reading and how early it is in one number: the first of equal ones is the highest
    constexpr int64_t kTimes = int64_t(1) << kBits;
    struct Keys {
        std::vector<int32_t> of;
    };
    parallel_groups(runs, worthwhile(threads, 0.5 * double(runs * times * channels)), 16, [=](int64_t run) {
        for (int64_t first = 0; first < times; first += kTimes) {
            const int64_t count = std::min(kTimes, times - first);
            const uint8_t* seen = reading + (run * times + first) * channels;
            std::vector<int32_t>& keys = own<Keys>().of;
            keys.assign(size_t(channels), -1);
            int32_t* __restrict key = keys.data();
            for (int64_t early = count; early-- > 0; seen += channels)
                for (int64_t channel = 0; channel < channels; ++channel) {
                    const int32_t here = int32_t(seen[channel]) << kBits | int32_t(early);
                    key[channel] = here > key[channel] ? here : key[channel];
                }
            uint8_t* best = value + run * channels;
            int64_t* at = which + run * channels;
            for (int64_t channel = 0; channel < channels; ++channel) {
                const uint8_t most = uint8_t(key[channel] >> kBits);
                if (first == 0 || most > best[channel]) best[channel] = most, at[channel] = first + count - 1 - (key[channel] & (kTimes - 1));
            }
        }
    });
}

}  // namespace spikeloop
