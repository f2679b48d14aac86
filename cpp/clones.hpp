// Loops that compilers turn into vector instructions themselves, compiled for several instruction sets.
#pragma once

#if !defined(SPIKELOOP_NO_CLONES) && defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define SPIKELOOP_CLONED __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SPIKELOOP_CLONED
#endif
#define SPIKELOOP_ALWAYS_INLINE inline __attribute__((always_inline))
