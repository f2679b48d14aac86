#include "codes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spikeloop {
namespace {

template <class T>
inline constexpr T kWhole = T(1.5) / std::numeric_limits<T>::epsilon();  // added and taken away, it leaves the nearest whole number

}  // namespace

template <class T>
Change rounded(const Rounding<T>& wanted) {
    Change change;
    const T *__restrict unit = wanted.unit, most = wanted.most, exact = wanted.exact;
    for (int64_t s = 0; s < wanted.sources; ++s) {
        const T* __restrict weight = wanted.weight + s * wanted.targets;
        int32_t* __restrict code = wanted.code + s * wanted.targets;
        T* __restrict executed = wanted.executed + s * wanted.targets;
        int32_t beyond = 0, between = 0;
        T squares = 0;
        for (int64_t t = 0; t < wanted.targets; ++t) {
            const T share = weight[t] / unit[t], high = share < most ? share : most, held = high > -most ? high : -most;
            const T whole = (held + kWhole<T>) - kWhole<T>, off = std::abs(share - whole);
            const bool is_beyond = off > T(0.5);
            beyond += is_beyond, between += !is_beyond & (off > exact);
            squares += is_beyond ? T(0) : off * off;
            code[t] = int32_t(whole), executed[t] = whole * unit[t];
        }
        change.beyond += beyond, change.between += between, change.squares += double(squares);
    }
    return change;
}
template Change rounded(const Rounding<float>&);
template Change rounded(const Rounding<double>&);

void lay(const int32_t* code, const int64_t* place, int64_t count, int32_t row, int32_t rows, int64_t below, uint8_t* array) {
    for (int64_t k = 0; k < count; ++k) {
        const int32_t size = std::abs(code[k]), share = rows == 1 ? size : (size + row) / rows;
        array[place[k]] = uint8_t(share & -(code[k] > 0)), array[place[k] + below] = uint8_t(share & -(code[k] < 0));  // no branch
    }
}

void wire(const uint8_t* code, const float* height, const int32_t* synapse, const int32_t* first, int64_t cells, float* weight) {
    for (int64_t cell = 0; cell < cells; ++cell) {
        double sum = 0;
        for (int32_t k = first[cell]; k < first[cell + 1]; ++k) sum += double(float(code[synapse[k]]) * height[synapse[k]]);
        weight[cell] = float(sum);
    }
}

}  // namespace spikeloop
