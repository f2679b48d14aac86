// Includes SPIKELOOP_KERNEL, a file of functions without headers, once for every instruction set, each in a namespace of its
// own; SPIKELOOP_BEST(f(x)) calls the best that this machine has. (Attributes that clone a function do not do: vectors wider
// than the plain machine's are taken apart before the clones are made.) Without SPIKELOOP_TARGETS, once: for what the compiler
// was told to compile for.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if SPIKELOOP_TARGETS
#define SPIKELOOP_TARGET 0  // GCC's own macros do not follow the pragma in C++
namespace spikeloop::plain {
#include "vectors.inl"
#include SPIKELOOP_KERNEL
}  // namespace spikeloop::plain
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,lzcnt,popcnt")
#undef SPIKELOOP_TARGET
#define SPIKELOOP_TARGET 2
namespace spikeloop::avx2 {
#include "vectors.inl"
#include SPIKELOOP_KERNEL
}  // namespace spikeloop::avx2
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq")
#undef SPIKELOOP_TARGET
#define SPIKELOOP_TARGET 512
namespace spikeloop::avx512 {
#include "vectors.inl"
#include SPIKELOOP_KERNEL
}  // namespace spikeloop::avx512
#pragma GCC pop_options
#define SPIKELOOP_BEST(call) \
    (best_target() == Target::avx512 ? avx512::call : best_target() == Target::avx2 ? avx2::call : plain::call)
#else
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define SPIKELOOP_TARGET 512
#elif defined(__AVX2__) && defined(__FMA__)
#define SPIKELOOP_TARGET 2
#else
#define SPIKELOOP_TARGET 0
#endif
namespace spikeloop::only {
#include "vectors.inl"
#include SPIKELOOP_KERNEL
}  // namespace spikeloop::only
#define SPIKELOOP_BEST(call) only::call
#endif
