// Fixed-width vectors (64 bytes, whatever the machine has) and the choice of the instruction set at run time.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define SPIKELOOP_UNROLL _Pragma("GCC unroll 8")
#define SPIKELOOP_OPAQUE(pointer) asm("" : "+r"(pointer))
#define SPIKELOOP_FORGET() asm volatile("" ::: "memory")
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

using Doubles = Vector<double>;
using Integers = Vector<int64_t>;
inline constexpr int kDoubles = kLanes<double>;

#if SPIKELOOP_TARGETS
enum class Target { plain, avx2, avx512 };
inline constexpr const char* kTargetNames[] = {"plain", "avx2", "avx512"};

// The best of the instruction sets that `each_target.hpp` compiles for and this machine has; no better one than SPIKELOOP_TARGET
// names, if it is in the environment: so one machine can compute what others do.
inline Target best_target() {
    static const Target best = [] {
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
        const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
        const Target found = avx2 && avx512 ? Target::avx512 : avx2 ? Target::avx2 : Target::plain;
        const char* most = std::getenv("SPIKELOOP_TARGET");
        for (const Target target : {Target::plain, Target::avx2})
            if (most && std::strcmp(most, kTargetNames[int(target)]) == 0) return std::min(found, target);
        return found;
    }();
    return best;
}
inline const char* target_name() { return kTargetNames[int(best_target())]; }
#else
inline const char* target_name() { return "only"; }
#endif

}  // namespace spikeloop
