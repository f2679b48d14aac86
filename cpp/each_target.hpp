// Includes SPIKELOOP_KERNEL, a file of functions without headers, once for every instruction set, each in a namespace of its
// own; SPIKELOOP_BEST(f(x)) calls the best that this machine has. (Attributes that clone a function do not do: vectors wider
// than the plain machine's are taken apart before the clones are made.)
#if SPIKELOOP_TARGETS
#include <immintrin.h>
#endif

#define SPIKELOOP_TARGET 0  // GCC's own macros do not follow the pragma in C++
namespace spikeloop::plain {
#include "vectors.inl"
#include SPIKELOOP_KERNEL
}  // namespace spikeloop::plain

#if SPIKELOOP_TARGETS
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
#define SPIKELOOP_BEST(call) plain::call
#endif
