// Fixed-width vectors (64 bytes, whatever the machine has) and run-time choice of the instruction set.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(SPIKELOOP_CLONES) && SPIKELOOP_CLONES && defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define SPIKELOOP_MULTIARCH __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SPIKELOOP_MULTIARCH
#endif
#define SPIKELOOP_INLINE inline __attribute__((always_inline))

namespace spikeloop {

template <class T>
struct VectorOf {
    static constexpr int lanes = 64 / sizeof(T);
    typedef T type __attribute__((vector_size(64)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
inline constexpr int kLanes = VectorOf<T>::lanes;

template <class T>
SPIKELOOP_INLINE Vector<T> load(const T* from) {
    Vector<T> x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
template <class T>
SPIKELOOP_INLINE void store(T* to, const Vector<T>& x) {
    std::memcpy(to, &x, sizeof x);
}

// Does any lane of a comparison hold?
template <class Mask>
SPIKELOOP_INLINE bool any(const Mask& mask) {
    int64_t words[8], all = 0;
    static_assert(sizeof mask == sizeof words);
    std::memcpy(words, &mask, sizeof words);
    for (int64_t word : words) all |= word;
    return all != 0;
}

// A comparison of vectors of T as one byte a lane, not zero where it holds.
template <class T, class Mask>
SPIKELOOP_INLINE void store_bytes(int8_t* to, const Mask& mask) {
    typedef int8_t Bytes __attribute__((vector_size(kLanes<T>)));
    const Bytes bytes = __builtin_convertvector(mask, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
}

// Calls `visit(lane)` for every byte that is not zero; `count` is a multiple of 8.
template <class Visit>
SPIKELOOP_INLINE void for_each_set(const int8_t* bytes, int count, Visit&& visit) {
    for (int first = 0; first < count; first += 8) {
        uint64_t word;
        std::memcpy(&word, bytes + first, sizeof word);
        while (word) {
            const int byte = __builtin_ctzll(word) / 8;
            word &= ~(uint64_t(0xff) << (8 * byte));
            visit(first + byte);
        }
    }
}

}  // namespace spikeloop
