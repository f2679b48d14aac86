// What the machine can do at most: multiply-adds alone, and the bare sweep of a feed-forward layer.
//
// The sweep has the access pattern of the engine and nothing else: the states of a block of neurons stay in registers while
// the events of a sample pass, and each event loads one row of weights and the three numbers of the flow to the next event:
//     v <- v em + i g,   i <- i es + w.
// No bound, no crossing, no exponential, no sorting, nothing written but one sum per sample.
// Three operations per neuron and event for the multiply-add units: two multiply-adds, and a product that takes as long.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

namespace {

template <class T>
struct Wide {
    static constexpr int lanes = 64 / sizeof(T);
    typedef T type __attribute__((vector_size(64)));
};

template <class T>
typename Wide<T>::type load(const T* from) {
    typename Wide<T>::type x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Multiply-adds a second, scalar ones: chains that do not wait for each other, enough of them to hide the latency.
template <class T>
double peak(int64_t rounds) {
    using V = typename Wide<T>::type;
    constexpr int kChains = 16;
    volatile T given = T(1e-3);  // not known to the compiler
    V x[kChains], add = V{} + given, factor = T(1) - add;
    for (int k = 0; k < kChains; ++k) x[k] = V{} + T(k);
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
        for (int k = 0; k < kChains; ++k) x[k] = x[k] * factor + add;
    }
    const double seconds = seconds_since(begin);
    V sum = V{};
    for (int k = 0; k < kChains; ++k) sum += x[k];
    [[maybe_unused]] volatile T sink = sum[0];  // or nothing would be computed
    return double(rounds) * kChains * Wide<T>::lanes / seconds;
}

template <class T, int W>
T sweep_block(const T* weight, int64_t columns, const int32_t* unit, const T* flow, int64_t events) {
    using V = typename Wide<T>::type;
    constexpr int L = Wide<T>::lanes;
    V v[W] = {}, i[W] = {};
    for (int64_t e = 0; e < events; ++e) {
        const T* row = weight + unit[e] * columns;
        const V em = V{} + flow[3 * e], es = V{} + flow[3 * e + 1], g = V{} + flow[3 * e + 2];
#pragma GCC unroll 8
        for (int k = 0; k < W; ++k) {
            v[k] = v[k] * em + i[k] * g;
            i[k] = i[k] * es + load(row + k * L);
        }
    }
    V sum = V{};
    for (int k = 0; k < W; ++k) sum += v[k] + i[k];
    T total = 0;
    for (int l = 0; l < L; ++l) total += sum[l];
    return total;
}

// `weight`: (rows, columns), columns a multiple of a vector. `flow`: em, es, g for as many events as the longest sample has.
template <class T>
double sweep(const T* weight, int64_t columns, const int32_t* unit, const int64_t* start, const T* flow, int64_t first, int64_t last,
             double* sums) {
    constexpr int L = Wide<T>::lanes;
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t sample = first; sample < last; ++sample) {
        const int32_t* units = unit + start[sample];
        const int64_t events = start[sample + 1] - start[sample];
        T total = 0;
        int64_t column = 0;
        for (; column + 8 * L <= columns; column += 8 * L) total += sweep_block<T, 8>(weight + column, columns, units, flow, events);
        for (; column + 4 * L <= columns; column += 4 * L) total += sweep_block<T, 4>(weight + column, columns, units, flow, events);
        for (; column < columns; column += L) total += sweep_block<T, 1>(weight + column, columns, units, flow, events);
        sums[sample] = double(total);
    }
    return seconds_since(begin);
}

}  // namespace

extern "C" {
double peak_float32(int64_t rounds) { return peak<float>(rounds); }
double peak_float64(int64_t rounds) { return peak<double>(rounds); }
double sweep_float32(const float* weight, int64_t columns, const int32_t* unit, const int64_t* start, const float* flow, int64_t first,
                     int64_t last, double* sums) {
    return sweep<float>(weight, columns, unit, start, flow, first, last, sums);
}
double sweep_float64(const double* weight, int64_t columns, const int32_t* unit, const int64_t* start, const double* flow, int64_t first,
                     int64_t last, double* sums) {
    return sweep<double>(weight, columns, unit, start, flow, first, last, sums);
}
}
