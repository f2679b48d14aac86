// The nearest whole number, of two the even one, without a branch and without a call.
#pragma once
#include <bit>
#include <cstdint>
#include <limits>

namespace spikeloop {

// Added to a number and taken away again it leaves no fraction, for numbers of at most half of one over epsilon: 2^51 in double
// precision, 2^22 in single.
template <class T>
inline constexpr T kWhole = T(1.5) / std::numeric_limits<T>::epsilon();

template <class T>
T nearest_whole(T x) { return (x + kWhole<T>) - kWhole<T>; }

// The same as an integer, which the last bits of the sum are: beyond +-2^51 it is another one that is, too.
inline int64_t nearest_integer(double x) {
    return int64_t(std::bit_cast<uint64_t>(x + kWhole<double>) - std::bit_cast<uint64_t>(kWhole<double>));
}

}  // namespace spikeloop
