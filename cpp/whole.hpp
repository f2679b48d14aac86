// The nearest whole number, of two the even one, without a branch and without a call.
#pragma once
#include <limits>

namespace spikeloop {

// For numbers of at most half of one over epsilon: 2^51 in double precision, 2^22 in single.
template <class T>
T nearest_whole(T x) {
    constexpr T kWhole = T(1.5) / std::numeric_limits<T>::epsilon();  // added and taken away, it leaves no fraction
    return (x + kWhole) - kWhole;
}

}  // namespace spikeloop
