// Are these numbers?
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace spikeloop {

// Whether none of them is NaN or infinite: their exponents are not all ones.
template <class T>
bool all_finite(const T* x, int64_t count) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    constexpr Bits kExponent = sizeof(T) == 4 ? Bits(0x7f800000) : Bits(0x7ff0000000000000);
    Bits found = 0;
    for (int64_t k = 0; k < count; ++k) {
        Bits bits;
        std::memcpy(&bits, x + k, sizeof bits);
        found |= Bits((bits & kExponent) == kExponent);
    }
    return found == 0;
}

}  // namespace spikeloop
